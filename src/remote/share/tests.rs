//! How long a file is taken for what it was, and what is listed ahead.

use super::*;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A file that was changed at the beginning of a minute, and looked at so many seconds later; its listing tells minutes.
fn looked_at(later: i64) -> (Known, Option<Time>) {
    let now = Time::now().secs;
    let listed = Some(Time { secs: now - 180 - now.rem_euclid(60), nanos: 0 });
    let mut known = Known::new(ROOT, Item { modified: listed, ..Item::new("x", Kind::File) });
    known.is_now(5, listed);
    let ago = 180 + now.rem_euclid(60) - later;
    known.looked = Instant::now().checked_sub(Duration::from_secs(ago.unsigned_abs()));
    (known, listed)
}

#[test]
fn a_file_is_what_it_was_once_the_minute_of_its_change_is_over() {
    let (known, listed) = looked_at(90);
    assert!(known.is_settled(listed));
    assert!(!known.is_settled(None), "nobody says when it was changed");
    let (known, listed) = looked_at(20);
    assert!(!known.is_settled(listed), "it may have been changed twice in that minute");
}

/// Twenty directories with a file in each; tells what is listed. The first time `d05` is listed goes wrong.
struct Many {
    told: Mutex<Sender<String>>,
    fails: Mutex<bool>,
}

impl Share for Many {
    fn list(&self, path: &str) -> Result<Vec<Item>> {
        lock(&self.told).send(path.to_owned()).unwrap();
        if path == "d05" && std::mem::take(&mut *lock(&self.fails)) {
            return Err(Error::new(ErrorKind::Denied, "not this time"));
        }
        Ok(match path {
            "" => (0..20).map(|n| Item::new(format!("d{n:02}"), Kind::Directory)).collect(),
            _ => vec![Item { len: Some(1), ..Item::new("file", Kind::File) }],
        })
    }

    fn look(&self, path: &str) -> Result<Item> {
        Err(Error::new(ErrorKind::NotFound, path.to_owned()))
    }

    fn open(&self, path: &str) -> Result<(String, Object)> {
        Err(Error::new(ErrorKind::NotFound, path.to_owned()))
    }
}

fn many() -> (ShareTree, Receiver<String>) {
    let (told, heard) = channel();
    let share = Many { told: Mutex::new(told), fails: Mutex::new(true) };
    let opener: Box<Opener> = Box::new(|_, _| Err(Error::new(ErrorKind::NotFound, "nothing is read")));
    let tree = ShareTree::new(Box::new(share), opener, Arc::new(Fleet::new(4)), Duration::from_secs(60)).unwrap();
    assert_eq!(heard.recv().unwrap(), "");
    (tree, heard)
}

fn names_in(tree: &ShareTree, name: &str) -> Vec<String> {
    let (mut names, name) = (Vec::new(), Name::new(name.as_bytes()).unwrap());
    let dir = tree.find(tree.root(), name).unwrap().unwrap();
    let listed = tree.list(dir, None, &mut |name, _, _| {
        names.push(String::from_utf8_lossy(name.bytes()).into_owned());
        ControlFlow::Continue(())
    });
    listed.unwrap();
    names
}

#[test]
fn who_lists_directories_one_behind_the_other_finds_the_next_ones_there() {
    let (tree, heard) = many();
    assert_eq!(names_in(&tree, "d01"), ["file"]);
    assert_eq!(names_in(&tree, "d02"), ["file"]);
    // Two of them by somebody, and eight more by nobody.
    let mut asked: Vec<_> = (0..10).map(|_| heard.recv().unwrap()).collect();
    asked.sort();
    assert_eq!(asked, (1..=10).map(|n| format!("d{n:02}")).collect::<Vec<_>>());
    // What went wrong ahead is asked for once more, and nothing else of these.
    for n in 3..=10 {
        assert_eq!(names_in(&tree, &format!("d{n:02}")), ["file"]);
    }
    let mut asked: Vec<_> = (0..9).map(|_| heard.recv().unwrap()).collect();
    asked.sort();
    let wanted: Vec<_> = ["d05".to_owned()].into_iter().chain((11..=18).map(|n| format!("d{n:02}"))).collect();
    assert_eq!(asked, wanted);
}

#[test]
fn who_lists_here_and_there_is_not_run_ahead_of() {
    let (tree, heard) = many();
    for dir in ["d07", "d03", "d01"] {
        names_in(&tree, dir);
    }
    drop(tree);
    assert_eq!(heard.iter().collect::<Vec<_>>(), ["d07", "d03", "d01"]);
}
