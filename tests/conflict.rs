//! One writer, readers that follow, and containers that change underneath: by the real program and real mounts.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;

use desk::{Desk, until};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

/// A mount of `a.st` with one old file that is committed and one new file that is not.
fn changed(desk: &Desk) {
    desk.mount();
    fs::create_dir(desk.path("m/dir")).unwrap();
    fs::write(desk.path("m/dir/old"), noise(1)).unwrap();
    desk.ok(&["sync", "m"]);
    fs::write(desk.path("m/new"), b"not stored").unwrap();
}

fn noise(seed: u32) -> Vec<u8> {
    (0..50_000u32).flat_map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 5).to_le_bytes()).collect()
}

/// A container that somebody else has made.
fn foreign(desk: &Desk) -> Vec<u8> {
    fs::create_dir(desk.path("other")).unwrap();
    fs::write(desk.path("other/theirs"), b"theirs").unwrap();
    desk.ok(&["pack", "-q", "other", "other.st"]);
    fs::read(desk.path("other.st")).unwrap()
}

fn conflicts(desk: &Desk) -> Vec<PathBuf> {
    let names = fs::read_dir(desk.path("")).unwrap().map(|e| e.unwrap().path());
    names.filter(|path| path.to_string_lossy().contains(".conflict-")).collect()
}

/// The one file that was saved has all, is whole, and the mount goes on with it.
fn check_saved(desk: &Desk) {
    desk.ok(&["sync", "m"]);
    let [saved] = &conflicts(desk)[..] else { panic!("{:?}", conflicts(desk)) };
    let saved = saved.to_str().unwrap().to_owned();
    for told in [desk.ok(&["status", "m"]), desk.ok(&["list"])] {
        assert!(told.contains(&saved), "{told}");
    }
    fs::write(desk.path("m/later"), b"later").unwrap();
    assert_eq!(fs::read(desk.path("m/dir/old")).unwrap(), noise(1));
    desk.umount();
    desk.ok(&["check", &saved]);
    assert_eq!(desk.ok(&["ls", "-R", &saved]), "dir\ndir/old\nlater\nnew\n");
    assert_eq!(desk.ok(&["cat", &format!("{saved}:new")]), "not stored");
    fs::create_dir(desk.path("out")).unwrap();
    desk.ok(&["unpack", "-q", &saved, "out"]);
    assert_eq!(fs::read(desk.path("out/dir/old")).unwrap(), noise(1));
    let hidden = fs::read_dir(desk.path(""))
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "tmp"));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn a_container_that_is_replaced_is_left_alone() {
    let Some(desk) = Desk::new() else { return };
    changed(&desk);
    let theirs = foreign(&desk);
    fs::rename(desk.path("other.st"), desk.path("a.st")).unwrap();
    check_saved(&desk);
    assert_eq!(fs::read(desk.path("a.st")).unwrap(), theirs);
}

#[test]
fn a_container_that_is_deleted_is_saved_beside_its_place() {
    let Some(desk) = Desk::new() else { return };
    changed(&desk);
    fs::remove_file(desk.path("a.st")).unwrap();
    check_saved(&desk);
    assert!(!desk.path("a.st").exists());
}

#[test]
fn a_container_that_is_written_over_is_left_alone_and_what_was_read_of_it_is_saved() {
    let Some(desk) = Desk::new() else { return };
    changed(&desk);
    assert_eq!(fs::read(desk.path("m/dir/old")).unwrap(), noise(1));
    let theirs = foreign(&desk);
    // In place, by the same inode, as cp does it.
    fs::copy(desk.path("other.st"), desk.path("a.st")).unwrap();
    check_saved(&desk);
    assert_eq!(fs::read(desk.path("a.st")).unwrap(), theirs);
}

#[test]
fn a_container_to_which_somebody_else_has_appended_is_left_alone() {
    let Some(desk) = Desk::new() else { return };
    changed(&desk);
    File::options().append(true).open(desk.path("a.st")).unwrap().write_all(b"theirs").unwrap();
    let theirs = fs::read(desk.path("a.st")).unwrap();
    check_saved(&desk);
    assert_eq!(fs::read(desk.path("a.st")).unwrap(), theirs);
}

#[test]
fn of_a_container_that_is_cut_off_the_changes_are_saved() {
    let Some(desk) = Desk::new() else { return };
    desk.mount();
    fs::create_dir(desk.path("m/dir")).unwrap();
    for i in 0..3 {
        fs::write(desk.path(&format!("m/dir/old{i}")), noise(i * 100_000)).unwrap();
    }
    desk.umount();
    // With a new daemon, nothing of the contents is in memory but what is read.
    let log = desk.path("log");
    desk.ok(&["-o", "commit=1h", "--log-file", log.to_str().unwrap(), "a.st", "m"]);
    fs::write(desk.path("m/dir/new"), b"not stored").unwrap();
    assert_eq!(fs::read(desk.path("m/dir/old0")).unwrap(), noise(0));
    let open = File::open(desk.path("m/dir/old2")).unwrap();
    assert_eq!(fs::read_dir(desk.path("m/dir")).unwrap().count(), 4);
    File::options().write(true).open(desk.path("a.st")).unwrap().set_len(100_000).unwrap();
    let unread = fs::read(desk.path("m/dir/old1")).unwrap_err();
    assert_eq!(unread.raw_os_error(), Some(rustix::io::Errno::STALE.raw_os_error()), "{unread}");
    desk.ok(&["sync", "m"]);
    assert_eq!(fs::metadata(desk.path("a.st")).unwrap().len(), 100_000);
    let unread = open.read_exact_at(&mut [0; 4], 100_000).unwrap_err();
    assert_eq!(unread.raw_os_error(), Some(rustix::io::Errno::STALE.raw_os_error()), "{unread}");
    assert_eq!(fs::read(desk.path("m/dir/new")).unwrap(), b"not stored");
    drop(open);
    desk.umount();
    let told = fs::read_to_string(log).unwrap();
    assert!(told.contains("old1 (inode") && told.contains("2 files could not be read"), "{told}");
    let saved = conflicts(&desk).pop().unwrap();
    desk.ok(&["check", saved.to_str().unwrap()]);
    assert_eq!(desk.ok(&["cat", &format!("{}:dir/new", saved.display())]), "not stored");
}

#[test]
fn a_container_that_is_moved_is_written_to_where_it_is() {
    let Some(desk) = Desk::new() else { return };
    changed(&desk);
    let theirs = foreign(&desk);
    fs::rename(desk.path("a.st"), desk.path("b.st")).unwrap();
    fs::rename(desk.path("other.st"), desk.path("a.st")).unwrap();
    desk.umount();
    assert_eq!(conflicts(&desk), Vec::<PathBuf>::new());
    assert_eq!(fs::read(desk.path("a.st")).unwrap(), theirs);
    assert_eq!(desk.ok(&["cat", "b.st:new"]), "not stored");
    desk.ok(&["check", "b.st"]);
}

#[test]
fn what_cannot_be_saved_yet_is_told_and_saved_later() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir(desk.path("dir")).unwrap();
    fs::rename(desk.path("a.st"), desk.path("dir/a.st")).unwrap();
    desk.ok(&["-o", "commit=1h", "dir/a.st", "m"]);
    let mut file = File::create(desk.path("m/new")).unwrap();
    file.write_all(b"not stored").unwrap();
    fs::remove_dir_all(desk.path("dir")).unwrap();
    assert!(file.sync_all().is_err());
    assert!(desk.ok(&["status", "m"]).contains("the last commit failed"));
    fs::create_dir(desk.path("dir")).unwrap();
    file.sync_all().unwrap();
    drop(file);
    desk.umount();
    let saved = fs::read_dir(desk.path("dir")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(desk.ok(&["cat", &format!("{}:new", saved.display())]), "not stored");
}

#[test]
fn a_container_that_nobody_has_changed_stays_deleted() {
    let Some(desk) = Desk::new() else { return };
    desk.mount();
    fs::write(desk.path("m/old"), b"stored").unwrap();
    desk.ok(&["sync", "m"]);
    fs::remove_file(desk.path("a.st")).unwrap();
    assert_eq!(fs::read(desk.path("m/old")).unwrap(), b"stored");
    desk.umount();
    assert_eq!(conflicts(&desk), Vec::<PathBuf>::new());
}

#[test]
fn who_reads_keeps_a_replaced_container_and_is_told_of_a_changed_one() {
    let Some(desk) = Desk::new() else { return };
    fs::create_dir(desk.path("two")).unwrap();
    for i in 0..2 {
        fs::write(desk.path(&format!("two/{i}")), noise(i * 1_000_000)).unwrap();
    }
    desk.ok(&["pack", "-q", "two", "two.st"]);
    foreign(&desk);
    desk.ok(&["--ro", "two.st", "m"]);
    fs::rename(desk.path("two.st"), desk.path("away.st")).unwrap();
    fs::copy(desk.path("other.st"), desk.path("two.st")).unwrap();
    assert_eq!(fs::read(desk.path("m/0")).unwrap(), noise(0));
    fs::copy(desk.path("other.st"), desk.path("away.st")).unwrap();
    let e = fs::read(desk.path("m/1")).unwrap_err();
    assert_eq!(e.raw_os_error(), Some(rustix::io::Errno::STALE.raw_os_error()), "{e}");
    desk.umount();
}

#[test]
fn who_follows_sees_each_commit_and_goes_on_reading_what_is_open() {
    let Some(desk) = Desk::new() else { return };
    desk.mount();
    fs::write(desk.path("m/file"), b"the first state").unwrap();
    desk.ok(&["sync", "m"]);
    desk.ok(&["-o", "follow", "a.st", "m2"]);
    let open = File::open(desk.path("m2/file")).unwrap();
    let mut bytes = [0; 15];
    open.read_exact_at(&mut bytes, 0).unwrap();

    fs::write(desk.path("m/file"), b"the second state").unwrap();
    fs::write(desk.path("m/more"), b"more").unwrap();
    desk.ok(&["sync", "m"]);
    until("the commit is seen", || fs::read(desk.path("m2/file")).unwrap() == b"the second state");
    assert_eq!(fs::read(desk.path("m2/more")).unwrap(), b"more");
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"the first state");
    assert!(fs::write(desk.path("m2/new"), b"").is_err());
    drop(open);

    fs::remove_file(desk.path("m/more")).unwrap();
    desk.ok(&["sync", "m"]);
    until("it is gone", || !desk.path("m2/more").exists());
    desk.umount();
    desk.ok(&["compact", "-q", "a.st"]);
    desk.mount();
    fs::write(desk.path("m/after"), b"compacted").unwrap();
    desk.ok(&["sync", "m"]);
    until("the file that took its place is seen", || desk.path("m2/after").exists());
    desk.umount();
    desk.ok(&["umount", "m2"]);
}

#[test]
fn who_follows_moves_on_to_a_file_that_takes_the_place() {
    let Some(desk) = Desk::new() else { return };
    foreign(&desk);
    desk.ok(&["-o", "follow", "a.st", "m2"]);
    // Half a copy is nothing to move on to.
    let all = fs::read(desk.path("other.st")).unwrap();
    fs::write(desk.path("half"), &all[..20]).unwrap();
    fs::rename(desk.path("half"), desk.path("a.st")).unwrap();
    assert_eq!(fs::read_dir(desk.path("m2")).unwrap().count(), 0);
    fs::rename(desk.path("other.st"), desk.path("a.st")).unwrap();
    until("the new one is seen", || desk.path("m2/theirs").exists());
    assert_eq!(fs::read(desk.path("m2/theirs")).unwrap(), b"theirs");
    let mapped =
        "import mmap; f = open('theirs', 'rb'); print(mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)[:6])";
    let out = Command::new("python3").args(["-c", mapped]).current_dir(desk.path("m2")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "b'theirs'\n");
    desk.ok(&["umount", "m2"]);
    assert_eq!(desk.say(&["-o", "follow,rw", "a.st", "m2"]).status.code(), Some(1));
}

#[test]
fn the_record_beside_the_container_tells_who_writes_and_goes_with_him() {
    let Some(desk) = Desk::new() else { return };
    desk.mount();
    let said = desk.say(&["compact", "-q", "a.st"]);
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(11), "{told}");
    let place = format!("mounted on {}", desk.path("m").display());
    assert!(told.contains(&format!("pid {}", desk.daemon())) && told.contains(&place), "{told}");
    desk.umount();
    assert!(!desk.path("a.st.lock").exists());
    desk.ok(&["--ro", "a.st", "m"]);
    assert!(!desk.path("a.st.lock").exists(), "who reads keeps nobody out");
    desk.umount();
}

#[test]
fn a_record_that_a_crash_has_left_is_no_nuisance() {
    let Some(desk) = Desk::new() else { return };
    desk.mount();
    desk.kill("-9");
    assert!(desk.path("a.st.lock").exists());
    let said = desk.say(&["snapshot", "a.st", "after"]);
    let told = String::from_utf8(said.stderr).unwrap();
    let unsigned = |line: &&str| line.contains("it is signed, and what is written to it is not");
    assert_eq!((said.status.code(), told.lines().find(|line| !unsigned(line))), (Some(0), None));
    desk.mount();
    fs::write(desk.path("m/file"), b"stored").unwrap();
    desk.umount();
    assert!(!desk.path("a.st.lock").exists());
}

#[test]
fn a_writer_on_another_machine_is_respected_until_the_lock_is_broken() {
    let Some(desk) = Desk::new() else { return };
    let record = r#"{"host":"elsewhere","boot":"another","pid":77,"start":5,"user":"ann","mountpoint":"/mnt/there",
        "since":1795422008,"inode":1}"#;
    fs::write(desk.path("a.st.lock"), record).unwrap();
    let said = desk.say(&["a.st", "m"]);
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(11), "{told}");
    for word in ["ann", "elsewhere", "pid 77", "2026-11-23 08:20:08", "/mnt/there", "--break-lock", "a.st.lock"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(fs::read(desk.path("a.st.lock")).unwrap(), record.as_bytes());
    desk.ok(&["--ro", "a.st", "m"]);
    desk.umount();
    desk.ok(&["mount", "--break-lock", "a.st", "m"]);
    desk.umount();
    assert!(!desk.path("a.st.lock").exists());
}
