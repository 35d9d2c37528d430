//! Bytes are opened as an ar archive, walked and read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stmount_fuzz::walk;

fuzz_target!(|bytes: &[u8]| walk::archive(&stmount::formats::ar::Ar, "fuzz.a", bytes, None));
