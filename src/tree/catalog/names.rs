//! Names of archives, made safe: what could leave its directory, or cannot be a name, is written another way.

use std::borrow::Cow;

/// The longest name that programs expect a file system to have.
const LONGEST: usize = 255;

/// How `..` is shown: escaped as in a URL, which people know.
pub const UP: &[u8] = b"%2E%2E";

/// A component of a path as it is shown, or nothing for one that means its directory itself. What differs from the name
/// in the archive is told by the attribute with the whole path.
pub fn shown(component: &[u8]) -> Option<Cow<'_, [u8]>> {
    match component {
        b"" | b"." => None,
        b".." => Some(Cow::Borrowed(UP)),
        _ if component.len() <= LONGEST && !component.contains(&0) => Some(Cow::Borrowed(component)),
        _ => Some(Cow::Owned(cut(&escaped(component)))),
    }
}

fn escaped(component: &[u8]) -> Vec<u8> {
    component.iter().flat_map(|b| if *b == 0 { b"%00".to_vec() } else { vec![*b] }).collect()
}

/// A long name ends with a hash of all of it, so that two that begin alike stay apart.
fn cut(name: &[u8]) -> Vec<u8> {
    if name.len() <= LONGEST {
        return name.to_vec();
    }
    let hash = blake3::hash(name).to_hex();
    let tail = format!("~{}", &hash[..8]);
    let mut head = &name[..LONGEST - tail.len()];
    // Not in the middle of a character.
    while head.last().is_some_and(|b| (0x80..0xc0).contains(b)) {
        head = &head[..head.len() - 1];
    }
    if head.last().is_some_and(|b| *b >= 0xc0) {
        head = &head[..head.len() - 1];
    }
    [head, tail.as_bytes()].concat()
}

/// `name (1)` for the first duplicate, `name (2)` for the next; the ending stays at the end.
pub fn numbered(name: &[u8], number: u64) -> Vec<u8> {
    let dot = name.iter().rposition(|b| *b == b'.').filter(|at| *at > 0 && name.len() - at <= 16);
    let (mut stem, ending) = name.split_at(dot.unwrap_or(name.len()));
    let number = format!(" ({number})");
    while !stem.is_empty() && stem.len() + number.len() + ending.len() > LONGEST {
        stem = &stem[..stem.len() - 1];
    }
    [stem, number.as_bytes(), ending].concat()
}
