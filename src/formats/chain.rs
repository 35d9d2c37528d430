//! Directories that are still to be gone through. Each knows the one above it, and its path is put together when it is its
//! turn: of many in each other, all paths together would be long.

use std::rc::Rc;

/// Bytes of a path that anybody can make use of.
const MAX_PATH: usize = 64 << 10;

/// A directory by its name and those above it; the root, by default.
#[derive(Clone, Default)]
pub struct Chain(Option<Rc<Link>>);

struct Link {
    above: Chain,
    name: Vec<u8>,
}

impl Chain {
    pub fn below(&self, name: Vec<u8>) -> Self {
        Self(Some(Rc::new(Link { above: self.clone(), name })))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_none()
    }

    /// From the root, without a slash at either end.
    pub fn path(&self) -> Vec<u8> {
        let (mut names, mut at) = (Vec::new(), self);
        while let Some(link) = &at.0 {
            names.push(&link.name[..]);
            at = &link.above;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// A path with one more name, unless it is too long.
    pub fn joined(path: &[u8], name: &[u8]) -> Option<Vec<u8>> {
        let joined = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
        (joined.len() <= MAX_PATH).then_some(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_together_from_the_root() {
        let dir = Chain::default().below(b"a".into()).below(b"b".into());
        assert_eq!((dir.path(), Chain::default().path()), (b"a/b".to_vec(), Vec::new()));
        assert_eq!(Chain::joined(&dir.path(), b"c"), Some(b"a/b/c".to_vec()));
        assert_eq!(Chain::joined(&[b'x'; MAX_PATH], b"c"), None);
    }
}
