//! Bytes are opened as a squashfs image, walked and read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stmount_fuzz::walk;

fuzz_target!(|bytes: &[u8]| walk::archive(&stmount::formats::squashfs::Squashfs, "fuzz.squashfs", bytes, None));
