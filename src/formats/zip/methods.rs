//! How entries are compressed.

use super::entry::Member;
use super::layout::method_name;
use crate::error::{Error, Kind, Result};
use crate::source::streams::{Deflate, Deflate64};
use crate::source::{ReadAt, Stream};
use std::sync::Arc;

/// The contents of an entry from its packed bytes, when they are more than stored; `size` is what they must become.
///
/// # Errors
/// `Unsupported`, with the number of the method.
pub fn decoded(member: &Member, packed: Arc<dyn ReadAt>, size: Option<u64>) -> Result<Arc<dyn Stream>> {
    Ok(match member.method {
        8 => Arc::new(Deflate::new(packed, size)),
        9 => Arc::new(Deflate64::new(packed, size)),
        method => {
            let name = method_name(method);
            let what = format!("it is compressed by method {method} ({name}), which this build cannot undo");
            return Err(Error::new(Kind::Unsupported, what));
        }
    })
}
