//! Under which names contents lie in clear: those that the files have in the mount, where the host can have them.

use super::dir::Dir;
use super::join;
use std::collections::{HashMap, HashSet};

/// What the host can have under no name of its own lies in this directory, by its number.
const ELSEWHERE: &[u8] = b"~stmount";
/// A longer path is more than some systems take, with what stands in front of it.
const PATH_MAX: usize = 3500;
/// A name that is not longer, and has nothing but ordinary letters, is one everywhere.
const PLAIN_MAX: usize = 100;

/// Gives out names.
pub struct Names<'a> {
    dir: &'a Dir,
    ignores_case: bool,
    /// Those that are given out, and the directories they are in.
    files: HashSet<Vec<u8>>,
    dirs: HashSet<Vec<u8>>,
    /// Those that are ours from before: what else is there stays where it is.
    ours: HashSet<Vec<u8>>,
    tried: HashMap<Vec<u8>, bool>,
}

impl<'a> Names<'a> {
    pub fn new(dir: &'a Dir, ours: impl Iterator<Item = Vec<u8>>) -> Self {
        let ignores_case = dir.ignores_case();
        let (files, dirs, tried) = (HashSet::new(), HashSet::new(), HashMap::new());
        let mut names = Self { dir, ignores_case, files, dirs, ours: HashSet::new(), tried };
        names.ours = ours.map(|path| names.folded(&path)).collect();
        names
    }

    /// As the host compares it.
    pub fn folded(&self, path: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(path) {
            Ok(text) if self.ignores_case => text.to_lowercase().into_bytes(),
            _ if self.ignores_case => path.to_ascii_lowercase(),
            _ => path.to_vec(),
        }
    }

    /// The name for the file of a path; `number` is like no other one.
    pub fn give(&mut self, path: Option<&[u8]>, number: u64) -> Vec<u8> {
        if let Some(path) = path.filter(|path| self.fits(path)) {
            self.take(path);
            return path.to_vec();
        }
        let mut elsewhere = ELSEWHERE.to_vec();
        join(&mut elsewhere, format!("{number:x}").as_bytes());
        while !self.is_free(&elsewhere) {
            elsewhere.push(b'~');
        }
        self.take(&elsewhere);
        elsewhere
    }

    /// Leaves a name to those who have it.
    pub fn take(&mut self, path: &[u8]) {
        let folded = self.folded(path);
        self.dirs.extend(above(&folded).map(<[u8]>::to_vec));
        self.files.insert(folded);
    }

    fn fits(&mut self, path: &[u8]) -> bool {
        let is_short = path.len() + self.dir.path().as_os_str().len() < PATH_MAX;
        is_short
            && !path.starts_with(ELSEWHERE)
            && self.is_free(path)
            && path.split(|b| *b == b'/').all(|name| self.can_be(name))
    }

    /// Whether nothing else has the path, and nothing but a directory is on the way to it.
    fn is_free(&self, path: &[u8]) -> bool {
        let folded = self.folded(path);
        if self.files.contains(&folded)
            || self.dirs.contains(&folded)
            || above(&folded).any(|dir| self.files.contains(dir))
        {
            return false;
        }
        let is_other = |path: &[u8], is_way: bool| match std::fs::symlink_metadata(self.dir.clear(path)) {
            Ok(meta) if meta.is_dir() => !is_way && !self.is_ours_alone(path),
            Ok(_) => !self.ours.contains(&self.folded(path)),
            Err(_) => false,
        };
        !is_other(path, false) && !above(path).any(|dir| is_other(dir, true))
    }

    /// Whether a directory has nothing in it but what was ours before. What of that stays is given its name anew.
    fn is_ours_alone(&self, dir: &[u8]) -> bool {
        let all = self.dir.clear_below(dir.to_vec());
        all.is_ok_and(|all| all.iter().all(|(path, _)| self.ours.contains(&self.folded(path))))
    }

    fn can_be(&mut self, name: &[u8]) -> bool {
        let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-".contains(b);
        let has_plain_ends = name.first().is_some_and(is_plain) && name.last().is_some_and(is_plain);
        if has_plain_ends && name.len() <= PLAIN_MAX && name.iter().all(|b| is_plain(b) || b". ".contains(b)) {
            return true;
        }
        if let Some(known) = self.tried.get(name) {
            return *known;
        }
        let takes = self.dir.takes_name(name);
        self.tried.insert(name.to_vec(), takes);
        takes
    }
}

/// The directories above a path, the nearest one first.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let cut = |path: &[u8]| path.iter().rposition(|b| *b == b'/');
    std::iter::successors(cut(path).map(|at| &path[..at]), move |dir| cut(dir).map(|at| &dir[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn dir() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::new(temp.path().to_owned());
        dir.make().unwrap();
        (temp, dir)
    }

    #[test]
    fn what_differs_only_by_case_lies_apart_where_the_host_sees_no_difference() {
        let (_temp, dir) = dir();
        let mut names = Names::new(&dir, std::iter::empty());
        assert_eq!(names.give(Some(b"d/A"), 1), b"d/A");
        assert_eq!(names.give(Some(b"d/a"), 2), b"d/a");
        names.ignores_case = true;
        assert_eq!(names.give(Some(b"D/B"), 3), b"D/B");
        assert_eq!(names.give(Some("d/Ä".as_bytes()), 4), "d/Ä".as_bytes());
        for (path, number) in [(&b"d/b"[..], 5), ("D/ä".as_bytes(), 6), (b"D", 7), (b"d/b/c", 8)] {
            assert_eq!(names.give(Some(path), number), format!("~stmount/{number}").into_bytes());
        }
    }

    #[test]
    fn what_is_in_the_way_stays_where_it_is() {
        let (_temp, dir) = dir();
        fs::create_dir_all(dir.clear(b"ours/deep")).unwrap();
        fs::create_dir(dir.clear(b"theirs")).unwrap();
        for path in [&b"a"[..], b"b", b"ours/deep/x", b"theirs/x"] {
            fs::write(dir.clear(path), "").unwrap();
        }
        let mut names = Names::new(&dir, [b"a".to_vec(), b"ours/deep/x".to_vec()].into_iter());
        for (path, number, given) in [
            (Some(&b"a"[..]), 1, &b"a"[..]),
            (Some(b"b"), 2, b"~stmount/2"),
            (Some(b"b/c"), 3, b"~stmount/3"),
            (Some(b"ours"), 4, b"ours"),
            (Some(b"theirs"), 5, b"~stmount/5"),
            (Some(b"theirs/y"), 6, b"theirs/y"),
            (Some(b"~stmount/9"), 7, b"~stmount/7"),
            (None, 7, b"~stmount/7~"),
        ] {
            assert_eq!(names.give(path, number), given, "{path:?}");
        }
        let long = vec![b'x'; 300];
        assert_eq!(names.give(Some(&long), 8), b"~stmount/8");
    }
}
