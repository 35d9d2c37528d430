//! Which state of a container was seen last: so that an earlier copy put in its place is noticed.
//!
//! ```text
//!  seen/0123456789abcdef0123456789abcdef      stmount-seen 1 SEQUENCE HASH SECONDS
//!       one small file for each container     the number of the commit, its hash, and when it was seen, since 1970
//! ```
//!
//! What is remembered only goes forward, under the lock of `seen/.lock`.

use super::places;
use crate::error::{Error, Kind, Result};
use crate::formats::Root;
use crate::key::sign::{hex, unhex};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Containers that are remembered; those that were not used for longest go.
const MOST: usize = 10_000;
/// Bytes of a file.
const LEN: u64 = 256;
const WORD: &str = "stmount-seen";

/// How a container stands to what was seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was never seen.
    New,
    Same,
    Newer,
    /// A later state was seen, then.
    Older {
        known: u64,
        secs: i64,
    },
    /// Another state with the same number was seen, then.
    Forked {
        secs: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    sequence: u64,
    hash: [u8; 32],
    secs: i64,
}

impl Mark {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = str::from_utf8(bytes).ok()?.split_whitespace();
        if (words.next(), words.next()) != (Some(WORD), Some("1")) {
            return None;
        }
        let (sequence, hash, secs) = (words.next()?, words.next()?, words.next()?);
        let mark = Self { sequence: sequence.parse().ok()?, hash: unhex(hash)?, secs: secs.parse().ok()? };
        words.next().is_none().then_some(mark)
    }

    fn text(&self) -> String {
        format!("{WORD} 1 {} {} {}\n", self.sequence, hex(&self.hash), self.secs)
    }
}

/// What was seen, in a directory.
pub struct Seen {
    dir: PathBuf,
}

impl Seen {
    /// In a directory for what is remembered.
    pub fn below(state: &Path) -> Self {
        Self { dir: state.join("seen") }
    }

    fn path(&self, uid: &[u8; 16]) -> PathBuf {
        self.dir.join(hex(uid))
    }

    fn mark(&self, uid: &[u8; 16]) -> Result<Option<Mark>> {
        let path = self.path(uid);
        let Some(bytes) = places::read(&path, LEN)? else { return Ok(None) };
        let wrong = || Error::new(Kind::Invalid, format!("{} is damaged", path.display())).hint("remove it");
        Mark::parse(&bytes).map(Some).ok_or_else(wrong)
    }

    /// How a container stands to what was seen of it.
    ///
    /// # Errors
    /// `Invalid` when what was remembered cannot be read.
    pub fn check(&self, root: &Root) -> Result<Standing> {
        let standing = standing(self.mark(&root.uid)?, root);
        if standing == Standing::Same {
            // It is in use: the time tells what goes first when there are too many.
            let file = File::options().append(true).open(self.path(&root.uid));
            let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        }
        Ok(standing)
    }

    /// Remembers a state, if it is newer than what is remembered.
    pub fn remember(&self, root: &Root, secs: i64) -> Result<()> {
        places::make(&self.dir)?;
        let _lock = places::lock(&self.dir.join(".lock"))?;
        let standing = standing(self.mark(&root.uid)?, root);
        if !matches!(standing, Standing::New | Standing::Newer) {
            return Ok(());
        }
        let mark = Mark { sequence: root.sequence, hash: root.hash, secs };
        places::write(&self.path(&root.uid), mark.text().as_bytes())?;
        if standing == Standing::New {
            make_room(&self.dir, MOST);
        }
        Ok(())
    }

    /// Forgets a container. False when nothing was remembered.
    pub fn forget(&self, uid: &[u8; 16]) -> Result<bool> {
        match fs::remove_file(self.path(uid)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io(e, format!("cannot remove {}", self.path(uid).display()))),
        }
    }
}

fn standing(known: Option<Mark>, root: &Root) -> Standing {
    let Some(Mark { sequence, hash, secs }) = known else { return Standing::New };
    match root.sequence.cmp(&sequence) {
        std::cmp::Ordering::Less => Standing::Older { known: sequence, secs },
        std::cmp::Ordering::Greater => Standing::Newer,
        std::cmp::Ordering::Equal if root.hash == hash => Standing::Same,
        std::cmp::Ordering::Equal => Standing::Forked { secs },
    }
}

/// When there are more files than so many, the tenth goes that was not used for longest.
fn make_room(dir: &Path, most: usize) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let is_ours = |name: &str| unhex::<16>(name).is_some();
    let all: Vec<_> = entries.flatten().filter(|e| e.file_name().to_str().is_some_and(is_ours)).collect();
    if all.len() <= most {
        return;
    }
    let time = |e: &fs::DirEntry| e.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut all: Vec<_> = all.iter().map(|e| (time(e), e.path())).collect();
    all.sort();
    let surplus = all.len() - (most - most / 10);
    all.iter().take(surplus).for_each(|(_, path)| drop(fs::remove_file(path)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Signer;

    fn root(sequence: u64, hash: u8) -> Root {
        Root { uid: [5; 16], sequence, hash: [hash; 32], signer: Signer::None, sealed: true }
    }

    #[test]
    fn what_is_remembered_only_goes_forward() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Seen::below(&dir.path().join("state"));
        assert_eq!(seen.check(&root(7, 1)).unwrap(), Standing::New);
        assert!(!dir.path().join("state").exists());
        seen.remember(&root(7, 1), 100).unwrap();
        assert_eq!(seen.check(&root(7, 1)).unwrap(), Standing::Same);
        assert_eq!(seen.check(&root(7, 2)).unwrap(), Standing::Forked { secs: 100 });
        assert_eq!(seen.check(&root(8, 2)).unwrap(), Standing::Newer);
        seen.remember(&root(8, 2), 200).unwrap();
        for (earlier, secs) in [(root(7, 1), 300), (root(8, 3), 300), (root(8, 2), 300)] {
            seen.remember(&earlier, secs).unwrap();
        }
        assert_eq!(seen.check(&root(7, 1)).unwrap(), Standing::Older { known: 8, secs: 200 });
        assert_eq!(seen.check(&root(8, 2)).unwrap(), Standing::Same);
        let other = Root { uid: [6; 16], ..root(1, 1) };
        assert_eq!(seen.check(&other).unwrap(), Standing::New);
        assert!(seen.forget(&[5; 16]).unwrap() && !seen.forget(&[5; 16]).unwrap());
        assert_eq!(seen.check(&root(1, 1)).unwrap(), Standing::New);
    }

    #[test]
    fn a_damaged_memory_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Seen::below(dir.path());
        seen.remember(&root(7, 1), 100).unwrap();
        let path = seen.path(&[5; 16]);
        let whole = fs::read_to_string(&path).unwrap();
        let hash = "01".repeat(32);
        assert_eq!(whole, format!("stmount-seen 1 7 {hash} 100\n"));
        for wrong in
            ["", "stmount-seen 2 7", &whole[3..], &format!("{whole} 1"), &whole.replace('7', "-7"), &"x".repeat(300)]
        {
            fs::write(&path, wrong).unwrap();
            assert_eq!(seen.check(&root(8, 1)).unwrap_err().kind(), Kind::Invalid, "{wrong}");
            assert!(seen.remember(&root(8, 1), 1).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), wrong);
        }
    }

    #[test]
    fn those_that_were_not_used_for_longest_go() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Seen::below(dir.path());
        places::make(&seen.dir).unwrap();
        fs::write(seen.dir.join(".lock"), "").unwrap();
        for number in 0..21u8 {
            let path = seen.path(&[number; 16]);
            fs::write(&path, "").unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number.into());
            File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
        }
        make_room(&seen.dir, 21);
        assert!(seen.path(&[0; 16]).exists());
        make_room(&seen.dir, 20);
        let left: Vec<_> = (0..21u8).filter(|number| seen.path(&[*number; 16]).exists()).collect();
        assert_eq!(left, (3..21).collect::<Vec<_>>());
        assert!(seen.dir.join(".lock").exists());
    }
}
