//! The one error type: what kind of thing happened, to which thing, what to do now.
//!
//! [`Kind`] is exhaustive on purpose: the exit code of the command and the errno of a mount are each one `match`
//! over it, and a new kind does not compile until both know it.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is. Whoever turns errors into exit codes or errnos matches on this and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself makes no sense: an unknown option, two options that exclude each other.
    Usage,
    /// The machine refused something unrelated to the data: no process, no thread, no pipe.
    System,
    /// A name does not exist.
    NotFound,
    /// The user may not do this.
    Denied,
    /// A name exists already.
    Exists,
    /// A directory was expected.
    NotADirectory,
    /// Something other than a directory was expected.
    IsADirectory,
    /// A name or an argument is not valid for the file system.
    Invalid,
    /// The medium or the tree takes no writes.
    ReadOnly,
    /// The disk is full.
    NoSpace,
    /// A directory that is to go has entries.
    NotEmpty,
    /// A name or a path is too long.
    NameTooLong,
    /// A file or a value is larger than the format or the system takes.
    TooLarge,
    /// The thing cannot be done with what it is asked of, by nobody.
    NotPermitted,
    /// There is no extended attribute of this name.
    NoAttribute,
    /// The operating system failed to read or write.
    Io,
    /// The other end of a link cannot be reached, or does not want to answer just now.
    Unreachable,
    /// The other end of a link did not answer in the time that was given.
    TimedOut,
    /// It is stored here, and not at the other end of a link yet.
    NotUploaded,
    /// The other end of a link does not let this user in.
    NotLetIn,
    /// Somebody else holds the container.
    Locked,
    /// The mount point is missing, in use, or inside what is being mounted.
    BadMountPoint,
    /// The kernel or fusermount refused the mount.
    MountFailed,
    /// Somebody still uses the mount.
    Busy,
    /// The bytes are of no format known here.
    NotRecognised,
    /// It is encrypted, and nobody gave a password.
    NeedsPassword,
    /// It is encrypted, and no password that was given is right.
    WrongPassword,
    /// It opens with a keyfile, and none was given, or another one.
    MissingKeyfile,
    /// It is sealed for recipients, and nobody gave an identity that is one of theirs.
    UnknownRecipient,
    /// It is encrypted in a way this build cannot undo.
    UnknownCipher,
    /// It is not signed by a key that is trusted, or it is older than what was seen of it.
    Untrusted,
    /// A volume of an archive of several files is not there.
    MissingVolume,
    /// What a thin container lies over is not there.
    MissingBase,
    /// A known format, with a codec, a feature or a version this build has not got.
    Unsupported,
    /// A header or an index is damaged, so nothing can be opened.
    Header,
    /// Data fail their check.
    Damaged,
    /// A number in a file is over the limit that protects memory and time.
    Limit,
    /// The source changed while it was open.
    Changed,
    /// The work ended, and some of it could not be done; each case was told on the way.
    Warnings,
    /// The person or a signal ended the work.
    Interrupted,
}

/// An error with its story: `what` names the thing and the event, `hint` what to do, `cause` what lies below.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    what: String,
    hint: Option<String>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, what: what.into(), hint: None, cause: None }))
    }

    /// An error of the operating system, with its kind taken from the errno.
    pub fn io(cause: std::io::Error, what: impl Into<String>) -> Self {
        Self::new(kind_of(&cause), what).caused_by(cause)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Names the thing in which the error arose: `x.st: segment at 4096 is damaged`.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.0.what = format!("{place}: {}", self.0.what);
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether it is the link that failed: asking again may help.
    pub fn is_of_link(&self) -> bool {
        matches!(self.0.kind, Kind::Unreachable | Kind::TimedOut)
    }

    /// What to do now, if there is something better to say than the message.
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The errno below, when the operating system gave one.
    pub fn os_code(&self) -> Option<i32> {
        self.0.cause.as_ref()?.downcast_ref::<std::io::Error>()?.raw_os_error()
    }
}

fn kind_of(cause: &std::io::Error) -> Kind {
    use std::io::ErrorKind as K;
    match cause.kind() {
        K::NotFound => Kind::NotFound,
        K::PermissionDenied => Kind::Denied,
        K::AlreadyExists => Kind::Exists,
        K::NotADirectory => Kind::NotADirectory,
        K::IsADirectory => Kind::IsADirectory,
        K::InvalidInput => Kind::Invalid,
        K::ReadOnlyFilesystem => Kind::ReadOnly,
        K::StorageFull | K::QuotaExceeded => Kind::NoSpace,
        K::FileTooLarge => Kind::TooLarge,
        K::DirectoryNotEmpty => Kind::NotEmpty,
        K::ResourceBusy => Kind::Busy,
        K::Interrupted => Kind::Interrupted,
        K::OutOfMemory => Kind::System,
        K::StaleNetworkFileHandle => Kind::Changed,
        K::TimedOut => Kind::TimedOut,
        _ => Kind::Io,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|c| c as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(cause: std::io::Error) -> Self {
        let kind = kind_of(&cause);
        Self::new(kind, "input/output").caused_by(cause)
    }
}

/// Adds the place to an error on its way up.
pub trait Within<T> {
    fn within<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Within<T> for Result<T, E> {
    fn within<D: fmt::Display>(self, place: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.into().within(place()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_place_the_event_and_the_cause() {
        let full = std::io::Error::from_raw_os_error(28);
        let e = Error::io(full, "cannot write").within("game.st").hint("free some space");
        assert_eq!(e.kind(), Kind::NoSpace);
        assert_eq!(e.os_code(), Some(28));
        assert_eq!(e.advice(), Some("free some space"));
        assert!(e.to_string().starts_with("game.st: cannot write: No space left"));
    }
}
