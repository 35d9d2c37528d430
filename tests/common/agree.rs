//! What is in a mount, an archive, or a directory, beside what a model has.

use super::fs::{Dump, with_times_of};
use stmount::tree::Kind;

/// How many directories are in a directory no archive tells; nor, where there is nothing else in it, the mode of its root.
pub fn comparable(mut dump: Dump) -> Dump {
    let dirs = dump.values_mut().filter(|seen| seen.kind == Kind::Directory);
    dirs.for_each(|seen| seen.nlink = 0);
    let is_empty = dump.len() == 1;
    if let Some(root) = dump.get_mut("").filter(|_| is_empty) {
        (root.mode, root.mtime) = (0, None);
        root.xattrs.clear();
    }
    dump
}

#[track_caller]
pub fn agree(ours: Dump, model: &Dump, when: &str) {
    let (ours, model) = (comparable(with_times_of(ours, model)), comparable(model.clone()));
    for (path, seen) in &model {
        let mine = ours.get(path);
        assert!(mine == Some(seen), "{when}: {path:?} differs: {mine:.300?} instead of {seen:.300?}");
    }
    assert_eq!(ours.len(), model.len(), "{when}: there is more: {:?}", ours.keys().collect::<Vec<_>>());
}
