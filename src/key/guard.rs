//! Keeping keys inside the process: no dump of its memory, no page of a key on the disk.
//!
//! The key of a container lies in a [`Kept`]: a place of its own on the heap, which the system is asked not to swap out.
//! What ciphers make of it, passwords on their way to it, and of course what it opened lie in ordinary memory: against
//! those in swap helps swap that is encrypted, or none.

use zeroize::Zeroize;

/// Forbids dumps of the memory of this process, and others of the same user to look into it. Best effort, like all here:
/// a system that does not know how is no reason not to open a file.
///
/// A process that is not dumpable may still open its own `/proc/self/fd`, which much here relies on; others but root may
/// not look at its files by `/proc/PID/fd` any more.
pub fn no_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(e) = setrlimit(Resource::Core, none) {
        log::debug!("core dumps stay possible: {e}");
    }
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        log::debug!("the memory stays readable to debuggers: {e}");
    }
}

/// 32 secret bytes that stay where they are, in memory, and are wiped at the end.
pub(super) struct Kept(Box<[u8; 32]>);

impl Kept {
    pub(super) fn new(bytes: &[u8; 32]) -> Self {
        let mut kept = Self(Box::new([0; 32]));
        stay_in_memory(&*kept.0);
        kept.0.copy_from_slice(bytes);
        kept
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Clone for Kept {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Asks the system not to swap out the pages of these bytes. They are never given free again: locks of pages do not count,
/// and another key may lie on the same page. The few pages of a few keys are all there will be.
#[allow(unsafe_code)]
fn stay_in_memory(bytes: &[u8]) {
    // SAFETY: it changes neither the bytes nor what may be done with them; the range is that of a slice.
    let locked = unsafe { rustix::mm::mlock(bytes.as_ptr().cast_mut().cast(), bytes.len()) };
    if let Err(e) = locked {
        log::debug!("a key may be swapped out: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_on_a_page_that_is_locked() {
        let kept = Kept::new(&[7; 32]);
        assert_eq!(kept.clone().expose(), &[7; 32]);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let locked = |line: &str| line.strip_prefix("Locked:").is_some_and(|rest| !rest.trim().starts_with("0 "));
        assert!(smaps.is_empty() || smaps.lines().any(locked) || !may_lock());
    }

    /// Some systems allow nobody to lock any page.
    fn may_lock() -> bool {
        rustix::process::getrlimit(rustix::process::Resource::Memlock).current != Some(0)
    }
}
