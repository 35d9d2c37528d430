//! Parity by the real program: what it promises in the README, and what it says when it cannot keep it.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dice.rs"]
mod dice;
#[path = "common/dress.rs"]
mod dress;

use desk::{Desk, until};
use dice::Dice;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Exit codes.
const OK: i32 = 0;
const NO_SOURCE: i32 = 10;
const LOCKED: i32 = 11;
const NO_SPACE: i32 = 13;
const NOT_RECOGNISED: i32 = 30;
const CHANGED: i32 = 44;
const DAMAGED: i32 = 50;
const REPAIRED: i32 = 51;
const WARNINGS: i32 = 3;

/// Runs, and gives the exit code and everything that was said.
fn say(desk: &Desk, args: &[&str]) -> (i32, String) {
    let said = desk.say(args);
    let words = [said.stdout, said.stderr].concat();
    (said.status.code().unwrap_or(-1), String::from_utf8_lossy(&words).into_owned())
}

fn repair(desk: &Desk, file: &str) -> i32 {
    let (code, words) = say(desk, &["check", "--repair", file]);
    println!("{file}: {code}: {words}");
    code
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len).map(|_| dice.below(256) as u8).collect()
}

/// Writes noise over a stretch of a file.
fn damage(file: &Path, at: u64, len: usize) {
    let len = len.min((fs::metadata(file).unwrap().len() - at) as usize);
    OpenOptions::new().write(true).open(file).unwrap().write_all_at(&noise(len, at + 1), at).unwrap();
}

/// A folder of about a megabyte that does not compress.
fn folder(desk: &Desk) {
    fs::create_dir_all(desk.path("d/below")).unwrap();
    fs::write(desk.path("d/noise"), noise(900_000, 1)).unwrap();
    fs::write(desk.path("d/below/text"), "a line\n".repeat(9000)).unwrap();
    fs::write(desk.path("d/below/more"), noise(70_000, 2)).unwrap();
}

/// A burst of the share anywhere in a file, the header and the end among it, is made good to the bit.
fn assert_bursts_are_repaired(desk: &Desk, name: &str, share: f64) {
    let file = desk.path(name);
    let whole = fs::read(&file).unwrap();
    let burst = (whole.len() as f64 * share) as u64;
    let last = whole.len() as u64 - burst;
    for at in [0, 1, burst / 2, last / 3, last / 2, last - burst, last] {
        damage(&file, at, burst as usize);
        assert_eq!(repair(desk, name), REPAIRED, "{at}");
        assert!(fs::read(&file).unwrap() == whole, "{name}: from {at} on");
    }
    assert_eq!(repair(desk, name), OK);
}

#[test]
fn a_packed_container_is_made_whole_wherever_a_burst_was() {
    let Some(desk) = Desk::new() else { return };
    folder(&desk);
    for (code, share) in [("reed-solomon-simd", 0.04), ("reed-solomon-erasure", 0.04)] {
        desk.ok(&["pack", "-qf", "--parity", "5%", "--parity-code", code, "d", "p.st"]);
        assert_bursts_are_repaired(&desk, "p.st", share);
    }
}

#[test]
fn parity_is_added_made_larger_and_taken_away_in_place() {
    let Some(desk) = Desk::new() else { return };
    folder(&desk);
    desk.ok(&["pack", "-q", "d", "p.st"]);
    desk.ok(&["parity", "drop", "p.st"]);
    let len = || fs::metadata(desk.path("p.st")).unwrap().len();
    let bare = len();
    let share = |of: f64| (bare as f64 * (1.0 + of)) as u64;
    desk.ok(&["parity", "add", "-q", "p.st"]);
    assert!(len() > share(0.05) && len() < share(0.07), "{} of {bare}", len());
    let five = len();
    desk.ok(&["parity", "add", "-q", "p.st"]);
    assert_eq!(len(), five, "there is nothing more to be covered");
    desk.ok(&["parity", "add", "-q", "p.st", "10%"]);
    assert!(len() > share(0.10) && len() < share(0.13), "{} of {bare}", len());
    let ten = len();
    desk.ok(&["parity", "add", "-q", "p.st"]);
    assert_eq!(len(), ten, "as much as it has, where nobody says how much");
    assert_bursts_are_repaired(&desk, "p.st", 0.08);
    desk.ok(&["parity", "drop", "p.st"]);
    assert!(len() < bare + 8192, "{} of {bare}", len());
    desk.ok(&["unpack", "-q", "p.st", "out"]);
    assert!(Command::new("diff").args(["-r", "d", "out"]).current_dir(desk.path("")).status().unwrap().success());
    assert_eq!(repair(&desk, "p.st"), OK, "without parity there is nothing to be done");
}

#[test]
fn what_a_mount_wrote_is_covered_when_it_is_unmounted() {
    let Some(desk) = Desk::of("b.st") else { return };
    desk.ok(&["create", "-f", "--parity", "5%", "b.st"]);
    for round in 0..3 {
        desk.mount();
        fs::write(desk.path(&format!("m/file {round}")), noise(300_000 << round, round)).unwrap();
        desk.umount();
    }
    assert_bursts_are_repaired(&desk, "b.st", 0.01);
    for round in 0..3 {
        let said = desk.say(&["cat", &format!("b.st:file {round}")]);
        assert!(said.stdout == noise(300_000 << round, round));
    }
}

#[test]
fn a_mount_that_was_killed_leaves_a_container_that_opens_and_parity_that_repairs() {
    let Some(desk) = Desk::of("b.st") else { return };
    desk.ok(&["create", "-f", "--parity", "10%", "b.st"]);
    desk.mount();
    fs::write(desk.path("m/covered"), noise(600_000, 1)).unwrap();
    desk.umount();
    desk.mount();
    fs::write(desk.path("m/new"), noise(100_000, 2)).unwrap();
    desk.ok(&["sync", "m"]);
    fs::write(desk.path("m/lost"), noise(100_000, 3)).unwrap();
    desk.kill("-9");
    desk.ok(&["umount", "m"]);

    let whole = fs::read(desk.path("b.st")).unwrap();
    assert_eq!(desk.ok(&["ls", "b.st"]), "covered\nnew\n");
    damage(&desk.path("b.st"), 200_000, 20_000);
    assert!(desk.say(&["cat", "b.st:covered"]).stdout == noise(600_000, 1), "it is read through the parity");
    assert_eq!(repair(&desk, "b.st"), REPAIRED);
    assert!(fs::read(desk.path("b.st")).unwrap() == whole);
    // The next mount goes on where this one was killed, and covers what is new.
    desk.mount();
    assert!(fs::read(desk.path("m/new")).unwrap() == noise(100_000, 2));
    desk.umount();
    assert_bursts_are_repaired(&desk, "b.st", 0.01);
}

#[test]
fn what_is_beyond_the_parity_is_named_and_the_rest_is_repaired() {
    let Some(desk) = Desk::new() else { return };
    folder(&desk);
    desk.ok(&["pack", "-q", "--parity", "2%", "d", "p.st"]);
    damage(&desk.path("p.st"), 100_000, 300_000);
    let (code, words) = say(&desk, &["check", "--repair", "p.st"]);
    assert_eq!(code, DAMAGED, "{words}");
    assert!(words.contains("cannot be") && words.contains("noise"), "{words}");
}

#[test]
fn a_sealed_container_is_repaired_without_its_key() {
    let Some(desk) = Desk::new() else { return };
    folder(&desk);
    fs::write(desk.path("key"), "a long passphrase\n").unwrap();
    desk.ok(&["pack", "-q", "--encrypt=key", "--parity", "5%", "d", "p.st"]);
    let whole = fs::read(desk.path("p.st")).unwrap();
    assert_eq!(repair(&desk, "p.st"), OK);
    for at in [0, 300_000, whole.len() as u64 - 20_000] {
        damage(&desk.path("p.st"), at, 20_000);
        let (code, words) = say(&desk, &["check", "--repair", "p.st"]);
        assert_eq!((code, words.contains("it is sealed")), (REPAIRED, true), "{words}");
        assert!(fs::read(desk.path("p.st")).unwrap() == whole);
    }
    assert!(desk.say(&["cat", "--password-file", "key", "p.st:noise"]).stdout == noise(900_000, 1));
}

#[test]
fn what_cannot_be_repaired_is_refused_by_name() {
    let Some(desk) = Desk::new() else { return };
    fs::write(desk.path("text"), "no archive at all").unwrap();
    let refused = |file: &str, code: i32| {
        let (said, words) = say(&desk, &["check", "--repair", file]);
        assert_eq!((said, words.contains(file)), (code, true), "{file}: {words}");
    };
    refused("text", NOT_RECOGNISED);
    refused("none.st", NO_SOURCE);
    desk.mount();
    refused("a.st", LOCKED);
    assert_eq!(say(&desk, &["parity", "add", "a.st"]).0, LOCKED);
    desk.umount();
    assert_eq!(say(&desk, &["parity", "drop", "text"]).0, NO_SOURCE);
}

#[test]
fn a_zip_is_repaired_by_the_file_beside_it() {
    let Some(desk) = Desk::new() else { return };
    folder(&desk);
    desk.ok(&["pack", "-q", "d", "a.zip"]);
    desk.ok(&["parity", "add", "-q", "a.zip"]);
    let (file, side) = (desk.path("a.zip"), desk.path("a.zip.stpar"));
    let (whole, parity) = (fs::read(&file).unwrap(), fs::read(&side).unwrap());
    assert!(parity.len() > whole.len() / 20 && parity.len() < whole.len() / 14);
    let is_repaired = |what: &str| {
        // Rot changes no times.
        File::open(&file).unwrap().set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        assert_eq!(repair(&desk, "a.zip"), REPAIRED, "{what}");
        assert!(fs::read(&file).unwrap() == whole && fs::read(&side).unwrap() == parity, "{what}");
        assert_eq!(repair(&desk, "a.zip"), OK, "{what}");
    };
    damage(&file, 0, 30_000);
    is_repaired("a burst at the front");
    fs::write(&file, &whole[..whole.len() - 30_000]).unwrap();
    is_repaired("a file that is cut off");
    fs::write(&file, [&whole[..], b"more"].concat()).unwrap();
    is_repaired("a file that is too long");
    damage(&side, 0, 1000);
    is_repaired("damage in the parity");
    damage(&side, parity.len() as u64 - 1000, 1000);
    damage(&file, 500_000, 10_000);
    is_repaired("damage in both");
    desk.ok(&["parity", "drop", "a.zip"]);
    assert!(!side.exists());
}

#[test]
fn an_empty_file_has_parity_too() {
    let Some(desk) = Desk::new() else { return };
    fs::write(desk.path("nothing"), "").unwrap();
    desk.ok(&["parity", "add", "-q", "nothing"]);
    assert_eq!(repair(&desk, "nothing"), OK);
    let side = fs::read(desk.path("nothing.stpar")).unwrap();
    damage(&desk.path("nothing.stpar"), 200, 100);
    assert_eq!(repair(&desk, "nothing"), REPAIRED);
    assert!(fs::read(desk.path("nothing.stpar")).unwrap() == side);
}

#[test]
fn a_file_that_was_changed_after_its_parity_is_left_alone_unless_it_is_forced() {
    let Some(desk) = Desk::new() else { return };
    folder(&desk);
    desk.ok(&["pack", "-q", "d", "a.zip"]);
    desk.ok(&["parity", "add", "-q", "a.zip"]);
    let file = desk.path("a.zip");
    let whole = fs::read(&file).unwrap();
    let later = || File::open(&file).unwrap().set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
    later();
    assert_eq!(repair(&desk, "a.zip"), OK, "it was only touched");
    damage(&file, 1000, 5000);
    later();
    let changed = fs::read(&file).unwrap();
    let (code, words) = say(&desk, &["check", "--repair", "a.zip"]);
    assert_eq!((code, words.contains("written to after")), (CHANGED, true), "{words}");
    assert!(fs::read(&file).unwrap() == changed);
    assert_eq!(say(&desk, &["check", "--repair", "--force", "a.zip"]).0, REPAIRED);
    assert!(fs::read(&file).unwrap() == whole);
    // Another file altogether: of nothing comes nothing.
    fs::write(&file, noise(whole.len(), 77)).unwrap();
    let other = fs::read(&file).unwrap();
    let (code, words) = say(&desk, &["check", "--repair", "--force", "a.zip"]);
    assert_eq!(code, DAMAGED, "{words}");
    assert!(words.contains("nothing was written") && fs::read(&file).unwrap() == other, "{words}");
}

/// A small disk at `disk`; `None` where none can be mounted.
fn small_disk(desk: &Desk, size: &str) -> Option<Disk> {
    let place = desk.path("disk");
    fs::create_dir(&place).unwrap();
    let options = format!("size={size}");
    let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&place).output().unwrap();
    if !done.status.success() {
        assert!(std::env::var_os("CI").is_none(), "no tmpfs can be mounted");
        println!("skipped: no tmpfs can be mounted");
        return None;
    }
    Some(Disk(place))
}

struct Disk(std::path::PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_container_stays_as_it_was_when_there_is_no_room_for_its_parity() {
    let Some(desk) = Desk::new() else { return };
    let Some(_disk) = small_disk(&desk, "1500k") else { return };
    folder(&desk);
    desk.ok(&["pack", "-q", "--parity", "5%", "d", "disk/p.st"]);
    let whole = fs::read(desk.path("disk/p.st")).unwrap();
    let (code, words) = say(&desk, &["parity", "add", "disk/p.st", "60%"]);
    assert_eq!(code, NO_SPACE, "{words}");
    assert!(fs::read(desk.path("disk/p.st")).unwrap() == whole);
}

#[test]
fn a_mount_that_has_no_room_for_parity_keeps_what_was_written() {
    let Some(desk) = Desk::new() else { return };
    let Some(_disk) = small_disk(&desk, "4m") else { return };
    desk.ok(&["create", "--parity", "100%", "disk/p.st"]);
    desk.ok(&["-o", "commit=1h", "disk/p.st", "m"]);
    fs::write(desk.path("m/large"), noise(2_300_000, 1)).unwrap();
    desk.ok(&["sync", "m"]);
    let _ = desk.say(&["umount", "m"]);
    until("it is unmounted", || !desk.is_mounted());
    assert!(desk.say(&["cat", "disk/p.st:large"]).stdout == noise(2_300_000, 1));
    desk.ok(&["check", "-q", "disk/p.st"]);
}

#[test]
fn who_reads_while_the_file_rots_reads_what_was_written() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir(desk.path("d")).unwrap();
    fs::write(desk.path("d/noise"), noise(4_000_000, 1)).unwrap();
    desk.ok(&["pack", "-q", "--parity", "5%", "d", "p.st"]);
    desk.ok(&["--log-file", "log", "-o", "ro", "p.st", "m"]);
    let (file, whole) = (File::open(desk.path("m/noise")).unwrap(), noise(4_000_000, 1));
    let mut dice = Dice(5);
    let (mut read, step) = (vec![0; 100_000], 100_000);
    for (n, want) in whole.chunks(step).enumerate() {
        if n % 3 == 0 {
            damage(&desk.path("p.st"), dice.below(3_900_000) + 5000, 2000);
        }
        file.read_exact_at(&mut read, (n * step) as u64).unwrap();
        assert!(read == want, "piece {n}");
    }
    assert!(fs::read_to_string(desk.path("log")).unwrap().contains("made good from parity"));
    drop(file);
    desk.umount();
    assert_eq!(repair(&desk, "p.st"), REPAIRED);
    assert!(desk.say(&["cat", "p.st:noise"]).stdout == whole);
}

#[test]
fn what_who_reads_a_mount_finds_damaged_is_written_as_it_was() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir(desk.path("d")).unwrap();
    fs::write(desk.path("d/noise"), noise(6_000_000, 1)).unwrap();
    desk.ok(&["pack", "-q", "--parity", "5%", "d", "p.st"]);
    let (path, whole) = (desk.path("p.st"), fs::read(desk.path("p.st")).unwrap());
    desk.ok(&["p.st", "m"]);
    // A burst, of which a read of the file asks for the data and for no header.
    damage(&path, 2_000_000, 150_000);
    assert!(fs::read(desk.path("m/noise")).unwrap() == noise(6_000_000, 1));
    assert!(desk.ok(&["status", "m"]).contains("not written yet"));
    desk.ok(&["commit", "m"]);
    assert!(fs::read(&path).unwrap() == whole, "all of the burst is as it was");
    assert!(desk.ok(&["status", "m"]).contains("0 of them are not written yet"));
    // The header: this container is still the same.
    damage(&path, 0, 4096);
    fs::write(desk.path("m/more"), noise(100_000, 2)).unwrap();
    desk.umount();
    assert_eq!(repair(&desk, "p.st"), REPAIRED);
    assert!(desk.say(&["cat", "p.st:more"]).stdout == noise(100_000, 2));
    assert!(!desk.path("").read_dir().unwrap().any(|e| e.unwrap().file_name().to_string_lossy().contains("conflict")));
}

/// Also where it is the header of a record that is damaged, and not what the record holds.
#[test]
fn a_check_tells_what_parity_makes_good_from_what_is_lost() {
    let Some(desk) = Desk::new() else { return };
    folder(&desk);
    desk.ok(&["pack", "-q", "--parity", "10%", "d", "p.st"]);
    let whole = fs::read(desk.path("p.st")).unwrap();
    let record = whole[100_000..].windows(4).position(|bytes| bytes == b"\xabSTR").unwrap() as u64 + 100_000;
    damage(&desk.path("p.st"), record, 20);
    damage(&desk.path("p.st"), record + 5000, 3000);
    let said = desk.say(&["check", "p.st"]);
    let told = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    assert!(told.contains("by parity") && !told.contains("cannot be read"), "{told}");
    assert_eq!(said.status.code(), Some(WARNINGS), "{told}");
    assert_eq!(repair(&desk, "p.st"), REPAIRED);
    assert!(fs::read(desk.path("p.st")).unwrap() == whole);
}

#[test]
fn what_is_lost_reads_as_zeros_for_who_asks_for_that() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir(desk.path("d")).unwrap();
    fs::write(desk.path("d/noise"), noise(900_000, 1)).unwrap();
    desk.ok(&["pack", "-q", "d", "p.st"]);
    desk.ok(&["parity", "drop", "p.st"]);
    damage(&desk.path("p.st"), 500_000, 100);
    let is_filled = |read: &[u8]| {
        let want = noise(900_000, 1);
        let first = read.iter().zip(&want).position(|(a, b)| a != b).unwrap();
        let behind = read.iter().zip(&want).rposition(|(a, b)| a != b).unwrap() + 1;
        read.len() == want.len() && behind - first <= 256 << 10 && read[first..behind].iter().all(|byte| *byte == 0)
    };
    assert_eq!(desk.say(&["cat", "p.st:noise"]).status.code(), Some(DAMAGED));
    assert!(is_filled(&desk.say(&["cat", "--allow-damaged", "p.st:noise"]).stdout));
    desk.ok(&["-o", "ro", "p.st", "m"]);
    assert!(fs::read(desk.path("m/noise")).is_err());
    desk.umount();
    desk.ok(&["-o", "ro,allow-damaged", "p.st", "m"]);
    assert!(is_filled(&fs::read(desk.path("m/noise")).unwrap()));
    desk.umount();
}

/// To recover is first of all to repair; and parity that is whole is none of what is behind the last commit.
#[test]
fn recovering_repairs_and_keeps_the_parity() {
    let Some(desk) = Desk::new() else { return };
    folder(&desk);
    desk.ok(&["pack", "-q", "--parity", "10%", "d", "p.st"]);
    let (path, whole) = (desk.path("p.st"), fs::read(desk.path("p.st")).unwrap());
    desk.ok(&["recover", "p.st"]);
    assert!(fs::read(&path).unwrap() == whole, "there is nothing to recover");
    damage(&path, 0, 5000);
    damage(&path, whole.len() as u64 - 300, 300);
    let rotten = fs::read(&path).unwrap();
    assert!(desk.ok(&["recover", "--dry-run", "p.st"]).contains("made good from parity"));
    assert!(fs::read(&path).unwrap() == rotten);
    desk.ok(&["recover", "p.st"]);
    assert!(fs::read(&path).unwrap() == whole);
}

#[test]
fn the_golden_container_with_parity_is_repaired_by_every_later_version() {
    let Some(desk) = Desk::new() else { return };
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/parity.st"), desk.path("p.st")).unwrap();
    assert_bursts_are_repaired(&desk, "p.st", 0.02);
}
