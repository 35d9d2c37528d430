//! Containers in volumes: any one may be lost where there is parity enough, and nothing is done by halves where there is not.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dice.rs"]
mod dice;
#[path = "common/dress.rs"]
mod dress;

use desk::Desk;
use dice::Dice;
use std::fs;
use std::path::PathBuf;

const OK: i32 = 0;
const USAGE: i32 = 1;
const MISSING_VOLUME: i32 = 34;
const REPAIRED: i32 = 51;

fn say(desk: &Desk, args: &[&str]) -> (i32, String) {
    let said = desk.say(args);
    let words = [said.stdout, said.stderr].concat();
    (said.status.code().unwrap_or(-1), String::from_utf8_lossy(&words).into_owned())
}

fn noise(len: usize) -> Vec<u8> {
    let mut dice = Dice(9);
    (0..len).map(|_| dice.below(256) as u8).collect()
}

/// A container with this much parity in ten volumes, and what is in each.
struct Set {
    desk: Desk,
    volumes: Vec<Vec<u8>>,
    words: String,
}

impl Set {
    fn new(parity: &[&str]) -> Option<Self> {
        let desk = Desk::new()?;
        fs::create_dir(desk.path("d")).unwrap();
        fs::write(desk.path("d/noise"), noise(1_000_000)).unwrap();
        fs::write(desk.path("d/text"), "a line of text\n".repeat(5000)).unwrap();
        desk.ok(&[&["pack", "-q"], parity, &["d", "one.st"]].concat());
        // A sealed container is cut elsewhere each time it is packed, so the next one may be larger by a little.
        let size = fs::metadata(desk.path("one.st")).unwrap().len() * 103 / 1000;
        let size = format!("{}k", size.div_ceil(1024));
        let (code, words) = say(&desk, &[&["pack"], parity, &["--volume-size", &size, "d", "v.st"]].concat());
        assert_eq!(code, OK, "{words}");
        let mut set = Self { desk, volumes: Vec::new(), words };
        set.volumes = (1..=10).map(|n| fs::read(set.path(n)).unwrap()).collect();
        assert!(!set.path(11).exists());
        Some(set)
    }

    fn path(&self, number: usize) -> PathBuf {
        self.desk.path(&format!("v.st.{number:03}"))
    }

    fn lose(&self, numbers: &[usize]) {
        numbers.iter().for_each(|number| fs::remove_file(self.path(*number)).unwrap());
    }

    fn give_back(&self) {
        (1..=10).for_each(|n| fs::write(self.path(n), &self.volumes[n - 1]).unwrap());
    }

    /// Any volume that is there.
    fn any(&self) -> String {
        let there = (1..=10).rev().find(|n| self.path(*n).exists()).unwrap();
        format!("v.st.{there:03}")
    }

    #[track_caller]
    fn assert_is_as_it_was(&self, what: &str) {
        for (n, volume) in (1..).zip(&self.volumes) {
            assert!(fs::read(self.path(n)).unwrap() == *volume, "{what}: volume {n}");
        }
        let others = fs::read_dir(self.desk.path(""))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().into_string().unwrap().contains(".tmp"));
        assert_eq!(others.count(), 0, "{what}");
    }

    #[track_caller]
    fn assert_repaired(&self, lost: &[usize]) {
        self.lose(lost);
        let (code, words) = say(&self.desk, &["check", "--repair", &self.any()]);
        assert_eq!(code, REPAIRED, "{lost:?}: {words}");
        lost.iter().for_each(|n| assert!(words.contains(&format!("v.st.{n:03} was missing")), "{words}"));
        self.assert_is_as_it_was(&format!("{lost:?}"));
    }
}

#[test]
fn any_volume_of_ten_may_be_lost() {
    let Some(set) = Set::new(&["--parity", "15%"]) else { return };
    assert!(set.words.contains("10 volumes, of which any one can be lost"), "{}", set.words);
    (1..=10).for_each(|lost| set.assert_repaired(&[lost]));
    assert_eq!(say(&set.desk, &["check", "--repair", "v.st.001"]).0, OK);
}

#[test]
fn two_volumes_may_be_lost_where_there_is_parity_for_two() {
    let Some(set) = Set::new(&["--parity", "40%"]) else { return };
    for lost in [[1, 2], [1, 5], [3, 4], [2, 7], [9, 10]] {
        set.assert_repaired(&lost);
    }
}

#[test]
fn what_is_lost_beyond_the_parity_is_named_and_nothing_is_written() {
    let Some(set) = Set::new(&["--parity", "15%"]) else { return };
    set.lose(&[3, 6]);
    let (code, words) = say(&set.desk, &["check", "--repair", "v.st.001"]);
    assert_eq!(code, MISSING_VOLUME, "{words}");
    assert!(words.contains("v.st.003, v.st.006") && words.contains("nothing was written"), "{words}");
    assert!(!set.path(3).exists() && !set.path(6).exists());
    let (code, words) = say(&set.desk, &["ls", "v.st.001"]);
    assert_eq!((code, words.contains("v.st.003, v.st.006")), (MISSING_VOLUME, true), "{words}");
    set.give_back();
    // One that is missing, and damage in another that would take the rest of the parity.
    set.lose(&[4]);
    fs::write(set.path(7), vec![0; set.volumes[6].len()]).unwrap();
    assert_eq!(say(&set.desk, &["check", "--repair", "v.st.001"]).0, MISSING_VOLUME);
    assert!(!set.path(4).exists());
}

#[test]
fn damage_beside_a_lost_volume_is_repaired_with_it() {
    let Some(set) = Set::new(&["--parity", "30%"]) else { return };
    let mut seven = set.volumes[6].clone();
    seven[1000..9000].fill(7);
    fs::write(set.path(7), &seven).unwrap();
    fs::write(set.path(2), &set.volumes[1][..50_000]).unwrap();
    set.assert_repaired(&[5]);
}

#[test]
fn without_parity_it_is_told_how_much_there_would_have_to_be() {
    let Some(set) = Set::new(&[]) else { return };
    let share = set.words.split("--parity ").nth(1).unwrap().split('%').next().unwrap().to_owned();
    set.lose(&[5]);
    let (code, words) = say(&set.desk, &["check", "--repair", "v.st.001"]);
    assert_eq!((code, words.contains("v.st.005")), (MISSING_VOLUME, true), "{words}");
    let size = format!("{}k", set.volumes[0].len() / 1024);
    let again = ["pack", "--parity", &format!("{share}%"), "--volume-size", &size, "d", "again.st"];
    assert!(say(&set.desk, &again).1.contains("of which any one can be lost"));
}

#[test]
fn a_container_is_read_without_one_of_its_volumes_and_says_so() {
    let Some(set) = Set::new(&["--parity", "15%"]) else { return };
    for lost in [1, 4, 8, 10] {
        set.lose(&[lost]);
        let said = set.desk.say(&["cat", "v.st.002:noise"]);
        assert!(said.stdout == noise(1_000_000), "{lost}");
        assert!(!said.stderr.is_empty(), "it is told that volume {lost} is missing");
        set.desk.ok(&["v.st.002", "m"]);
        assert!(fs::read(set.desk.path("m/noise")).unwrap() == noise(1_000_000), "{lost}");
        assert!(fs::write(set.desk.path("m/more"), "").is_err(), "it is only read");
        set.desk.umount();
        set.give_back();
    }
}

#[test]
fn volumes_are_not_written_to() {
    let Some(set) = Set::new(&["--parity", "15%"]) else { return };
    for args in [&["-o", "rw", "v.st.001", "m"][..], &["pack", "--append", "d", "v.st.001"]] {
        assert_ne!(say(&set.desk, args).0, OK, "{args:?}");
    }
    set.assert_is_as_it_was("refused");
}

#[test]
fn a_file_is_cut_in_volumes_and_put_together_again() {
    let Some(set) = Set::new(&["--parity", "15%"]) else { return };
    let desk = &set.desk;
    let whole = fs::read(desk.path("one.st")).unwrap();
    desk.ok(&["split", "-q", "one.st", "--volume-size", "100k"]);
    assert_eq!(say(desk, &["split", "one.st", "--volume-size", "100k"]).0, USAGE, "they exist already");
    desk.ok(&["split", "-qf", "one.st", "--volume-size", "300k"]);
    let lens: Vec<u64> = (1..=4).map(|n| fs::metadata(desk.path(&format!("one.st.{n:03}"))).unwrap().len()).collect();
    assert_eq!(lens.iter().sum::<u64>(), whole.len() as u64);
    assert!(!desk.path("one.st.005").exists(), "what is left of smaller ones goes");
    fs::remove_file(desk.path("one.st")).unwrap();
    desk.ok(&["join", "-q", "one.st.003"]);
    assert!(fs::read(desk.path("one.st")).unwrap() == whole);
    assert_eq!(say(desk, &["join", "one.st.001"]).0, USAGE, "it exists already");
    for lost in [2, 4] {
        fs::rename(desk.path(&format!("one.st.{lost:03}")), desk.path("aside")).unwrap();
        let (code, words) = say(desk, &["join", "one.st.001", "other"]);
        assert_eq!((code, words.contains(&format!("one.st.{lost:03}"))), (MISSING_VOLUME, true), "{words}");
        assert!(!desk.path("other").exists());
        fs::rename(desk.path("aside"), desk.path(&format!("one.st.{lost:03}"))).unwrap();
    }
}
