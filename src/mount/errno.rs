//! From a kind of error to the errno a program sees.

use crate::error::Kind;
use fuser::Errno;

/// The errno of a kind. Every kind has one: a new kind does not compile until it is named here.
pub fn errno(kind: Kind) -> Errno {
    match kind {
        Kind::NotFound => Errno::ENOENT,
        Kind::Denied | Kind::NeedsPassword | Kind::WrongPassword => Errno::EACCES,
        Kind::MissingKeyfile | Kind::UnknownRecipient | Kind::Untrusted | Kind::NotLetIn => Errno::EACCES,
        Kind::Exists => Errno::EEXIST,
        Kind::NotADirectory => Errno::ENOTDIR,
        Kind::IsADirectory => Errno::EISDIR,
        Kind::Usage | Kind::Invalid | Kind::BadMountPoint => Errno::EINVAL,
        Kind::ReadOnly => Errno::EROFS,
        Kind::NoSpace => Errno::ENOSPC,
        Kind::NotEmpty => Errno::ENOTEMPTY,
        Kind::NameTooLong => Errno::ENAMETOOLONG,
        Kind::TooLarge => Errno::EFBIG,
        Kind::NotPermitted => Errno::EPERM,
        Kind::NoAttribute => Errno::NO_XATTR,
        Kind::Locked | Kind::Busy => Errno::EBUSY,
        Kind::Unsupported | Kind::UnknownCipher => Errno::EOPNOTSUPP,
        Kind::Changed => Errno::ESTALE,
        Kind::Unreachable => Errno::EHOSTUNREACH,
        Kind::TimedOut => Errno::ETIMEDOUT,
        Kind::NotUploaded => Errno::EINPROGRESS,
        Kind::Interrupted => Errno::EINTR,
        Kind::System | Kind::Limit => Errno::ENOMEM,
        Kind::Io
        | Kind::MissingVolume
        | Kind::MissingBase
        | Kind::MountFailed
        | Kind::NotRecognised
        | Kind::Header
        | Kind::Damaged
        | Kind::Warnings => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_an_input_output_error_and_a_missing_name_is_not() {
        assert_eq!(errno(Kind::Damaged), Errno::EIO);
        assert_eq!(errno(Kind::NotFound), Errno::ENOENT);
        assert_eq!(errno(Kind::ReadOnly), Errno::EROFS);
    }
}
