//! Bytes are opened as an ISO 9660 image, walked and read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stmount_fuzz::walk;

fuzz_target!(|bytes: &[u8]| walk::archive(&stmount::formats::iso9660::Iso9660, "fuzz.iso", bytes, None));
