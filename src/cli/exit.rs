//! The exit codes: one table for the whole program, stable, the same in the manual.

use crate::error::Kind;

pub const OK: u8 = 0;
pub const USAGE: u8 = 1;
pub const SYSTEM: u8 = 2;
pub const WARNINGS: u8 = 3;
pub const NO_SOURCE: u8 = 10;
pub const LOCKED: u8 = 11;
pub const WRONG_PASSWORD: u8 = 12;
pub const NO_SPACE: u8 = 13;
pub const BAD_MOUNT_POINT: u8 = 14;
pub const NEEDS_PASSWORD: u8 = 20;
pub const MISSING_KEYFILE: u8 = 21;
pub const UNKNOWN_CIPHER: u8 = 22;
pub const UNKNOWN_RECIPIENT: u8 = 23;
pub const UNTRUSTED: u8 = 24;
pub const NOT_RECOGNISED: u8 = 30;
pub const BAD_HEADER: u8 = 31;
pub const MOUNT_FAILED: u8 = 32;
pub const UNSUPPORTED: u8 = 33;
pub const MISSING_VOLUME: u8 = 34;
pub const NOT_LET_IN: u8 = 41;
pub const NETWORK: u8 = 42;
pub const CHANGED: u8 = 44;
pub const DAMAGED: u8 = 50;
pub const REPAIRED: u8 = 51;
pub const BUSY: u8 = 60;
pub const NOT_UPLOADED: u8 = 61;
pub const PARTIAL: u8 = 64;
/// Plus the number of the signal.
pub const SIGNAL: u8 = 128;

/// What each code means, for the manual and `--help`.
pub const TABLE: &[(u8, &str)] = &[
    (OK, "done; after a mount: it is ready and readable"),
    (USAGE, "the command line makes no sense, or the output exists already"),
    (SYSTEM, "the system refused something: no process, no memory, an input or output error"),
    (WARNINGS, "done, but some files were skipped or are missing; what is known of them was told"),
    (NO_SOURCE, "the source does not exist or cannot be opened"),
    (LOCKED, "another process holds the container"),
    (WRONG_PASSWORD, "no password that was given is right"),
    (NO_SPACE, "no space left where something had to be written"),
    (BAD_MOUNT_POINT, "the mount point is missing, not an empty directory, or inside the source"),
    (NEEDS_PASSWORD, "the source is encrypted, and no password was given"),
    (MISSING_KEYFILE, "the source opens with a keyfile, and the right one was not given"),
    (UNKNOWN_CIPHER, "the source is encrypted in a way that this program cannot undo"),
    (UNKNOWN_RECIPIENT, "the source is sealed for recipients, and no identity that was given is one of theirs"),
    (UNTRUSTED, "the source is not signed by a key that is trusted, or it is older than it was when it was seen last"),
    (NOT_RECOGNISED, "the source is of no known format"),
    (BAD_HEADER, "the header or the index of the source is damaged"),
    (MOUNT_FAILED, "the kernel or fusermount3 refused the mount"),
    (UNSUPPORTED, "the source needs a method or a version that this program has not got"),
    (MISSING_VOLUME, "a file of a source of several files is missing; it is named"),
    (NOT_LET_IN, "the server does not let this user in"),
    (NETWORK, "the server cannot be reached, or did not answer in time"),
    (CHANGED, "the source was changed while it was in use"),
    (DAMAGED, "data are damaged and cannot be repaired; the files are named"),
    (REPAIRED, "data were damaged, and all of them are repaired"),
    (BUSY, "the mount is in use and was not unmounted; the processes are named"),
    (NOT_UPLOADED, "what was written is stored here, and not on the server yet; the next mount sends it"),
    (PARTIAL, "of several mounts, some failed"),
    (SIGNAL, "plus N: ended by the signal N"),
];

/// The code of an error.
pub fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Usage | Kind::Invalid | Kind::Exists | Kind::ReadOnly | Kind::NotPermitted => USAGE,
        Kind::NotEmpty | Kind::NameTooLong | Kind::NoAttribute => USAGE,
        Kind::System | Kind::Io => SYSTEM,
        Kind::Warnings => WARNINGS,
        Kind::NotFound | Kind::Denied | Kind::NotADirectory | Kind::IsADirectory => NO_SOURCE,
        Kind::Locked => LOCKED,
        Kind::NoSpace | Kind::TooLarge => NO_SPACE,
        Kind::BadMountPoint => BAD_MOUNT_POINT,
        Kind::NotRecognised => NOT_RECOGNISED,
        Kind::Header | Kind::Limit => BAD_HEADER,
        Kind::MountFailed => MOUNT_FAILED,
        Kind::Unsupported => UNSUPPORTED,
        Kind::NeedsPassword => NEEDS_PASSWORD,
        Kind::WrongPassword => WRONG_PASSWORD,
        Kind::MissingKeyfile => MISSING_KEYFILE,
        Kind::UnknownRecipient => UNKNOWN_RECIPIENT,
        Kind::UnknownCipher => UNKNOWN_CIPHER,
        Kind::Untrusted => UNTRUSTED,
        Kind::MissingVolume | Kind::MissingBase => MISSING_VOLUME,
        Kind::NotLetIn => NOT_LET_IN,
        Kind::Unreachable | Kind::TimedOut => NETWORK,
        Kind::Changed => CHANGED,
        Kind::Damaged => DAMAGED,
        Kind::Busy => BUSY,
        Kind::NotUploaded => NOT_UPLOADED,
        Kind::Interrupted => of_signal(signal_hook::consts::SIGINT),
    }
}

/// The code of a process that a signal ended.
pub fn of_signal(signal: i32) -> u8 {
    SIGNAL.saturating_add(signal.clamp(0, 127) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_same_table() {
        let readme = include_str!("../../README.md");
        for (code, what) in TABLE.iter().filter(|(code, _)| *code != SIGNAL) {
            assert!(readme.contains(&format!("| {code} | {what} |\n")), "{code}");
        }
    }

    #[test]
    fn every_code_an_error_can_have_is_in_the_manual() {
        let kinds = [Kind::Usage, Kind::System, Kind::NotFound, Kind::Exists, Kind::NoSpace, Kind::Locked, Kind::Busy];
        let more = [Kind::BadMountPoint, Kind::MountFailed, Kind::NotRecognised, Kind::Unsupported, Kind::Header];
        let keys = [Kind::NeedsPassword, Kind::WrongPassword, Kind::MissingKeyfile, Kind::UnknownRecipient];
        let last = [Kind::Damaged, Kind::Changed, Kind::Warnings, Kind::Untrusted];
        for kind in kinds.into_iter().chain(more).chain(keys).chain(last) {
            assert!(TABLE.iter().any(|(c, _)| *c == code(kind)), "{kind:?}");
        }
        assert_eq!((of_signal(15), code(Kind::Interrupted)), (143, 130));
    }
}
