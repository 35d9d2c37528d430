//! How entries are compressed.

use super::entry::Member;
use super::layout::method_name;
use super::old::{Old, is_old};
use crate::error::{Error, Kind, Result};
use crate::source::streams::{Bzip2, Deflate, Deflate64, Lzma, Ppmd, Xz, Zstd};
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
        12 => Arc::new(Bzip2::new(packed, size)),
        14 => Arc::new(Lzma::in_zip(packed, size)?),
        20 | 93 => Arc::new(Zstd::new(packed)),
        95 => Arc::new(Xz::new(packed)),
        98 => Arc::new(Ppmd::in_zip(packed, size.ok_or_else(|| endless(member.method))?)?),
        old if is_old(old) => Arc::new(Old::new(member, packed, size.ok_or_else(|| endless(old))?)?),
        method => {
            let name = method_name(method);
            let what = format!("it is compressed by method {method} ({name}), which this build cannot undo");
            return Err(Error::new(Kind::Unsupported, what));
        }
    })
}

/// Some methods leave it to others to say where their data end.
fn endless(method: u16) -> Error {
    let what = format!("it is compressed by {}, and nothing says how long it is", method_name(method));
    Error::new(Kind::Damaged, what)
}
