//! Bytes are opened as a container, walked, read and checked. An input is a `.st` file and nothing else, so that what is
//! found can be given to `stmount` as it is; the hashes are made right by the mutator.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use stmount_fuzz::{mutate, walk};

fuzz_target!(|bytes: &[u8]| walk::all(bytes));

/// Threads that decode ahead make every input look as if it leaked; to look for leaks after each takes most of the time.
#[unsafe(no_mangle)]
extern "C" fn __asan_default_options() -> *const std::ffi::c_char {
    c"detect_leaks=0".as_ptr()
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mutate(data, size, max_size, seed)
});
