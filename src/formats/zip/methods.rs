//! How entries are compressed.

use super::entry::Member;
use super::layout::method_name;
use crate::error::{Error, Kind, Result};
use crate::source::{ReadAt, Stream};
use std::sync::Arc;

/// The contents of an entry from its packed bytes, when they are more than stored; `size` is what they must become.
///
/// # Errors
/// `Unsupported`, with the number of the method.
pub fn decoded(member: &Member, _packed: Arc<dyn ReadAt>, _size: Option<u64>) -> Result<Arc<dyn Stream>> {
    let method = member.method;
    let what = format!("it is compressed by method {method} ({}), which this build cannot undo", method_name(method));
    Err(Error::new(Kind::Unsupported, what))
}
