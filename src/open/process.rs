//! Processes of this machine, known by their number and the time they began.

use std::fs;

/// When a process began: the 22nd field of `/proc/PID/stat`, counted behind the command in parentheses, which may hold
/// spaces and parentheses itself.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let behind = stat.iter().rposition(|b| *b == b')')? + 2;
    let mut fields = std::str::from_utf8(stat.get(behind..)?).ok()?.split(' ');
    // A process that is dead and not yet waited for does not run any more.
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// Whether the process that had this number, and began at that time, still runs.
pub fn is_running(pid: u32, start: u64) -> bool {
    start_time(pid) == Some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs() {
        let pid = std::process::id();
        assert!(is_running(pid, start_time(pid).unwrap()));
        assert!(!is_running(pid, start_time(pid).unwrap() + 1));
    }
}
