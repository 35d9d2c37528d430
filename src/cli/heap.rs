//! How what keeps a cache takes its memory from the system: a daemon that lives for weeks, above all.
//!
//! The cache keeps buffers as large as segments that one thread fills and another drops. glibc gives each thread a heap of
//! its own, and after the first such buffer is freed it keeps them inside these heaps, where they leave holes: twice the
//! memory of the cache. With one heap, and large blocks outside of it, what is freed goes back; the buffers of segments
//! are used again by the volume itself, so that this costs no time.

/// Blocks from this size on are mapped on their own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: i32 = 128 * 1024;

/// Said once, before there are threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn keep_small() {
    // SAFETY: these are two settings of the allocator, which takes its own lock. One that is refused stays as it was.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
}

/// Other allocators have no such heaps.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_small() {}
