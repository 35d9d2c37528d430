//! Why nothing came, in the words of all kinds of servers.

use crate::error::{Error, Kind};
use crate::source::{Again, Failure};

/// What came, or why nothing did and whether to ask again.
pub type Fetched<T> = std::result::Result<T, Failure>;

pub fn late() -> Failure {
    soon(Kind::TimedOut, "the server did not answer in time")
}

/// It may work in a while.
pub fn soon(kind: Kind, what: impl Into<String>) -> Failure {
    Failure { error: Error::new(kind, what), again: Again::Soon }
}

/// Asking again would not help.
pub fn never(kind: Kind, what: impl Into<String>) -> Failure {
    Failure { error: Error::new(kind, what), again: Again::Never }
}

/// What is behind an error that wraps others.
pub fn deepest(e: &dyn std::error::Error) -> Option<String> {
    std::iter::successors(e.source(), |e| e.source()).last().map(ToString::to_string)
}

pub fn system(e: std::io::Error) -> Failure {
    Failure { error: Error::io(e, "no request can be made"), again: Again::Never }
}
