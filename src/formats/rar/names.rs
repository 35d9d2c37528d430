//! Names that do not say what they are in, and the paths that names are.

use super::headers::{File, Host, Name};
use crate::codec::charset::{Charset, Origin};
use crate::error::Result;
use crate::formats::charset_called;

/// Bytes of names that are looked at to find out what they are in.
const SAMPLE: usize = 256 << 10;

/// The charset of the names that do not tell theirs: what a person says, or what all of them look like.
pub fn charset(encoding: Option<&str>, files: &[File]) -> Result<Charset> {
    if let Some(encoding) = encoding {
        return charset_called(encoding);
    }
    let is_of_windows = |file: &&File| file.host == Host::Windows;
    let undeclared = || files.iter().filter(|file| is_undeclared(&file.name));
    let origin = match (undeclared().any(|file| is_of_windows(&file)), undeclared().all(|file| is_of_windows(&file))) {
        (false, _) => Origin::Unix,
        (true, true) => Origin::Dos,
        (true, false) => Origin::Unknown,
    };
    let mut left = SAMPLE;
    let sample = undeclared().map(|file| &file.name.bytes[..]).take_while(|name| {
        let is_in = left > 0;
        left = left.saturating_sub(name.len());
        is_in
    });
    Ok(Charset::detect(sample, origin))
}

pub fn is_undeclared(name: &Name) -> bool {
    !name.is_text && !name.bytes.is_ascii()
}

/// The path of an entry, `/` between its names. Before RAR 5 a backslash is one of them, whatever the system was.
pub fn path(file: &File, charset: Charset, has_backslashes: bool) -> Vec<u8> {
    let mut path = match is_undeclared(&file.name) {
        true => charset.utf8(&file.name.bytes).into_owned(),
        false => file.name.bytes.clone(),
    };
    if has_backslashes {
        slashed(&mut path);
    }
    if let Some(version) = file.version {
        path.extend_from_slice(format!(";{version}").as_bytes());
    }
    path
}

/// Makes backslashes slashes.
pub fn slashed(path: &mut [u8]) {
    path.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
}
