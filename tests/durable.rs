//! What the README promises about durability, each sentence by the real program, a real mount and real programs in it.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;

use desk::{Desk, until};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Each promise holds for every container that takes changes.
macro_rules! promises {
    ($container:literal, $room:ident, $($promise:ident),* $(,)?) => {
        mod $room {
            $(#[test] fn $promise() { super::Desk::of($container).iter().for_each(super::$promise); })*
        }
    };
}

macro_rules! of_every_container {
    ($($promise:ident),* $(,)?) => {
        promises! { "a.st", st, $($promise),* }
        promises! { "a.zip", zip, $($promise),* }
        promises! { "a.tar", tar, $($promise),* }
        promises! { "a.tar.zst", tar_zst, $($promise),* }
        promises! { "a.7z", sevenz, $($promise),* }
    };
}

of_every_container! {
    what_fsync_acknowledged_survives_kill_9,
    fsync_of_a_directory_covers_its_names,
    after_a_crash_operations_are_there_up_to_some_point_and_not_beyond,
    without_fsync_a_change_waits_no_longer_than_commit_says,
    a_file_renamed_over_another_is_whole_or_the_other_one,
    sync_umount_and_sigterm_store_everything_before_they_end,
    a_lazy_unmount_stores_what_is_written_until_the_last_user_has_left,
    fsync_fails_when_its_writes_were_lost,
    a_second_writer_is_refused_and_told_who_the_first_is,
    an_open_file_without_a_name_works_and_leaves_nothing_behind,
    a_program_that_runs_is_not_written_to,
    shared_writable_memory_and_locks_work_between_processes,
    a_database_is_whole_after_kill_9,
    a_repository_of_git_is_whole_when_it_is_mounted_again,
    a_file_that_an_editor_saves_is_the_old_one_or_the_new_one,
    rsync_transfers_nothing_the_second_time,
    a_full_disk_is_told_and_work_goes_on_when_there_is_room,
}

fn synced(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
}

fn what_fsync_acknowledged_survives_kill_9(desk: &Desk) {
    desk.mount();
    fs::create_dir_all(desk.path("m/deep/er")).unwrap();
    synced(&desk.path("m/deep/er/file"), b"acknowledged");
    fs::write(desk.path("m/later"), b"never synced").unwrap();
    desk.kill("-9");
    desk.mount();
    assert_eq!(fs::read(desk.path("m/deep/er/file")).unwrap(), b"acknowledged");
    desk.umount();
    desk.ok(&["check", desk.name]);
}

fn fsync_of_a_directory_covers_its_names(desk: &Desk) {
    desk.mount();
    fs::write(desk.path("m/one"), b"1").unwrap();
    match desk.has_hard_links() {
        true => fs::hard_link(desk.path("m/one"), desk.path("m/two")).unwrap(),
        false => fs::write(desk.path("m/two"), b"1").unwrap(),
    }
    fs::rename(desk.path("m/one"), desk.path("m/three")).unwrap();
    File::open(desk.path("m")).unwrap().sync_all().unwrap();
    desk.kill("-9");
    desk.mount();
    let mut names: Vec<_> = fs::read_dir(desk.path("m")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["three", "two"]);
    assert_eq!(fs::metadata(desk.path("m/two")).unwrap().nlink(), if desk.has_hard_links() { 2 } else { 1 });
    desk.umount();
}

fn after_a_crash_operations_are_there_up_to_some_point_and_not_beyond(desk: &Desk) {
    desk.mount_with("commit=20ms");
    let mut done = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(600) {
        fs::write(desk.path(&format!("m/{done}.new")), format!("content {done}")).unwrap();
        fs::rename(desk.path(&format!("m/{done}.new")), desk.path(&format!("m/{done}"))).unwrap();
        done += 1;
    }
    desk.kill("-9");
    desk.mount();
    let count = (0..done).take_while(|i| desk.path(&format!("m/{i}")).exists()).count();
    assert!(count > 0, "the timer commits");
    for i in 0..count {
        assert_eq!(fs::read(desk.path(&format!("m/{i}"))).unwrap(), format!("content {i}").as_bytes());
    }
    let left = fs::read_dir(desk.path("m")).unwrap().count();
    assert!(left - count <= 1, "at most the file of the interrupted operation is there as well");
    desk.umount();
}

fn without_fsync_a_change_waits_no_longer_than_commit_says(desk: &Desk) {
    desk.mount_with("commit=1s");
    fs::write(desk.path("m/file"), b"by and by").unwrap();
    until("it is committed", || desk.ok(&["status", "m"]).starts_with("everything is stored"));
    desk.kill("-9");
    desk.mount();
    assert_eq!(fs::read(desk.path("m/file")).unwrap(), b"by and by");
    desk.umount();
}

fn a_file_renamed_over_another_is_whole_or_the_other_one(desk: &Desk) {
    desk.mount_with("commit=10ms");
    synced(&desk.path("m/settings"), &[b'0'; 50_000]);
    let begun = Instant::now();
    let mut i = 0u8;
    while begun.elapsed() < Duration::from_millis(400) {
        i = i.wrapping_add(1);
        fs::write(desk.path("m/settings.tmp"), vec![i; 50_000]).unwrap();
        fs::rename(desk.path("m/settings.tmp"), desk.path("m/settings")).unwrap();
    }
    desk.kill("-9");
    desk.mount();
    let found = fs::read(desk.path("m/settings")).unwrap();
    assert_eq!(found.len(), 50_000);
    assert!(found.iter().all(|b| *b == found[0]));
    desk.umount();
}

fn sync_umount_and_sigterm_store_everything_before_they_end(desk: &Desk) {
    desk.mount();
    fs::write(desk.path("m/a"), b"a").unwrap();
    assert!(desk.ok(&["status", "m"]).contains("not stored yet"));
    desk.ok(&["sync", "m"]);
    assert!(desk.ok(&["status", "m"]).starts_with("everything is stored"));
    desk.kill("-9");
    desk.mount();
    fs::write(desk.path("m/b"), b"b").unwrap();
    desk.umount();
    desk.mount();
    fs::write(desk.path("m/c"), b"c").unwrap();
    desk.kill("-TERM");
    assert!(!desk.is_mounted());
    assert_eq!(desk.ok(&["ls", desk.name]), "a\nb\nc\n");
}

fn a_lazy_unmount_stores_what_is_written_until_the_last_user_has_left(desk: &Desk) {
    desk.mount();
    let mut file = File::create(desk.path("m/log")).unwrap();
    file.write_all(b"before, ").unwrap();
    desk.ok(&["umount", "-z", "m"]);
    file.write_all(b"after").unwrap();
    drop(file);
    // The new mount waits for the daemon that still has something to store.
    desk.mount();
    assert_eq!(fs::read(desk.path("m/log")).unwrap(), b"before, after");
    desk.umount();
}

fn fsync_fails_when_its_writes_were_lost(desk: &Desk) {
    desk.mount();
    let mut file = File::create(desk.path("m/file")).unwrap();
    file.write_all(b"lost").unwrap();
    desk.kill("-9");
    assert!(file.sync_all().is_err());
    desk.mount();
    assert!(file.sync_all().is_err(), "nor does it lie when there is a new mount");
    desk.umount();
}

fn a_second_writer_is_refused_and_told_who_the_first_is(desk: &Desk) {
    desk.mount();
    let said = desk.say(&["-o", "rw", desk.name, "m2"]);
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(11), "{told}");
    assert!(told.contains(&format!("pid {}", desk.daemon())) && told.contains("/m "), "{told}");
    // Who reads sees what was committed last.
    fs::write(desk.path("m/file"), b"committed").unwrap();
    desk.ok(&["commit", "m"]);
    fs::write(desk.path("m/other"), b"not yet").unwrap();
    desk.ok(&["-o", "ro", desk.name, "m2"]);
    assert_eq!(fs::read(desk.path("m2/file")).unwrap(), b"committed");
    assert!(!desk.path("m2/other").exists());
    assert!(fs::write(desk.path("m2/new"), b"").is_err());
    desk.ok(&["umount", "m2"]);
    desk.umount();
}

fn an_open_file_without_a_name_works_and_leaves_nothing_behind(desk: &Desk) {
    desk.mount();
    let file = File::options().read(true).write(true).create_new(true).open(desk.path("m/temporary")).unwrap();
    fs::remove_file(desk.path("m/temporary")).unwrap();
    file.write_all_at(b"still here", 100_000).unwrap();
    file.sync_all().unwrap();
    let mut bytes = [0; 10];
    file.read_exact_at(&mut bytes, 100_000).unwrap();
    assert_eq!(&bytes, b"still here");
    desk.kill("-9");
    drop(file);
    desk.mount();
    assert_eq!(fs::read_dir(desk.path("m")).unwrap().count(), 0);
    desk.umount();
    assert_eq!(desk.ok(&["ls", "-R", desk.name]), "");
    if desk.is_st() {
        let info = desk.ok(&["info", desk.name]);
        assert!(info.lines().any(|l| l.starts_with("files") && l.ends_with(" 1")), "only the root: {info}");
    }
}

fn a_program_that_runs_is_not_written_to(desk: &Desk) {
    desk.mount();
    let program = desk.path("m/program");
    // Not by this process: what another test starts meanwhile would have the file open as well.
    assert!(Command::new("cp").args([Path::new("/bin/sleep"), &program]).status().unwrap().success());
    let mut running = Command::new(&program).arg("100").spawn().unwrap();
    // The second cuts off as well, and only the kernel knows that it must not.
    for options in [OpenOptions::new().write(true), OpenOptions::new().read(true).custom_flags(0o1000)] {
        assert_eq!(options.open(&program).unwrap_err().kind(), ErrorKind::ExecutableFileBusy);
    }
    assert!(running.try_wait().unwrap().is_none(), "it ended");
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(fs::read(&program).unwrap() == fs::read("/bin/sleep").unwrap());
    // Nobody runs it any more.
    OpenOptions::new().read(true).custom_flags(0o1000).open(&program).unwrap();
    assert_eq!(fs::metadata(&program).unwrap().len(), 0);
    desk.umount();
}

fn shared_writable_memory_and_locks_work_between_processes(desk: &Desk) {
    desk.mount();
    let script = r#"
import mmap, os, fcntl, sys
f = open("shared", "w+b"); f.truncate(8192)
a = mmap.mmap(f.fileno(), 8192)
fcntl.lockf(f, fcntl.LOCK_EX)
child = os.fork()
if child == 0:
    g = open("shared", "r+b")
    try:
        fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB); os._exit(1)
    except OSError: pass
    b = mmap.mmap(g.fileno(), 8192); b[4096:4101] = b"child"; b.flush(); os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the lock was not seen"
assert a[4096:4101] == b"child"
a[0:6] = b"parent"; a.flush()
assert open("shared", "rb").read(6) == b"parent"
"#;
    let python = Command::new("python3").args(["-c", script]).current_dir(desk.path("m")).status().unwrap();
    assert!(python.success());
    desk.umount();
    let cat = desk.ok(&["cat", &format!("{}:shared", desk.name)]);
    assert!(cat.starts_with("parent") && cat[4096..].starts_with("child"));
}

fn a_database_is_whole_after_kill_9(desk: &Desk) {
    for mode in ["delete", "wal"] {
        desk.mount();
        // "full" leaves the end of the last transaction, the removal of its journal, to the system.
        let script = format!(
            r#"
import sqlite3, sys
c = sqlite3.connect("db-{mode}", isolation_level=None)
c.execute("pragma journal_mode={mode}"); c.execute("pragma synchronous=extra"); c.execute("create table t(a integer primary key, b text)")
for i in range(60):
    c.execute("begin"); c.execute("insert into t(b) values(?)", ("x" * 700,)); c.execute("commit")
    print(i + 1, flush=True)
"#
        );
        let out = Command::new("python3").args(["-c", &script]).current_dir(desk.path("m")).output().unwrap();
        let rows = String::from_utf8(out.stdout).unwrap().lines().count();
        assert_eq!(rows, 60, "{}", String::from_utf8_lossy(&out.stderr));
        desk.kill("-9");
        desk.mount();
        let script = format!(
            r#"
import sqlite3
c = sqlite3.connect("db-{mode}")
print(c.execute("pragma integrity_check").fetchone()[0], c.execute("select count(*) from t").fetchone()[0])
"#
        );
        let out = Command::new("python3").args(["-c", &script]).current_dir(desk.path("m")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "ok 60\n", "{mode}");
        desk.umount();
    }
    desk.ok(&["check", desk.name]);
}

fn rsync_transfers_nothing_the_second_time(desk: &Desk) {
    let more = if desk.has_hard_links() { "ln a hard && mkfifo fifo; touch \"$(printf 'odd\\377name')\"" } else { ":" };
    let script = &format!("mkdir -p s && cd s && echo a >a; {more}; cd ..").to_owned();
    let script = &[
        script,
        r#"
mkdir -p s/sub/empty && cd s && ln -s nowhere link
printf '\377\n x' >sub/plain; touch "$(printf '%0255d' 0)"
truncate -s 10M sparse && echo end >>sparse && touch -d '1969-12-31 23:59:58.25 UTC' a
chmod 4711 sub/plain; chmod 1777 sub; setfattr -n user.note -v hello a 2>/dev/null; setfacl -m u:1:r a 2>/dev/null; true
"#,
    ]
    .concat();
    assert!(Command::new("sh").args(["-c", script]).current_dir(desk.path("")).status().unwrap().success());
    let rsync = |args: &[&str]| {
        let mut command = Command::new("rsync");
        let out = command.args(args).args(["s/", "m/"]).current_dir(desk.path("")).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let told = String::from_utf8_lossy(&out.stdout).into_owned();
        // A 7z has no place for the root itself.
        if desk.has_hard_links() { told } else { told.replacen(".d..t...... ./\n", "", 1) }
    };
    let all = match rustix::process::geteuid().is_root() {
        _ if !desk.has_hard_links() => "-rltpS",
        true => "-aHAXS",
        false => "-aHXS",
    };
    desk.mount();
    rsync(&[all, "--delete"]);
    assert_eq!(rsync(&[all, "--delete", "-ni"]), "");
    desk.umount();
    desk.mount();
    assert_eq!(rsync(&[all, "--delete", "-ni", "--checksum"]), "");
    if !desk.is_st() {
        desk.umount();
        return desk.witnessed();
    }
    assert!(fs::metadata(desk.path("m/sparse")).unwrap().blocks() < 100, "a sparse file stays sparse");
    // A page in the middle of a file costs about a page.
    let big: Vec<u8> = (0..3_000_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect();
    fs::write(desk.path("s/big"), &big).unwrap();
    rsync(&[all]);
    desk.ok(&["sync", "m"]);
    let before = fs::metadata(desk.path(desk.name)).unwrap().len();
    OpenOptions::new().write(true).open(desk.path("s/big")).unwrap().write_all_at(&[7; 4096], 6_000_000).unwrap();
    rsync(&[all, "--inplace", "--no-whole-file", "--ignore-times"]);
    assert_eq!(rsync(&[all, "-ni", "--checksum"]), "");
    desk.umount();
    let grown = fs::metadata(desk.path(desk.name)).unwrap().len() - before;
    // What the parity of a container takes, it takes at the end.
    let parity = if dress::mends() { 2_000_000 } else { 0 };
    assert!(grown < 300_000 + parity, "{grown} bytes for one page");
    desk.ok(&["check", desk.name]);
}

#[test]
fn states_with_names_can_be_mounted_listed_and_restored() {
    let Some(desk) = Desk::new() else { return };
    desk.mount();
    fs::write(desk.path("m/file"), b"monday").unwrap();
    desk.ok(&["snapshot", "m", "monday"]);
    fs::write(desk.path("m/file"), b"tuesday").unwrap();
    fs::write(desk.path("m/new"), b"new").unwrap();
    desk.ok(&["snapshot", "m", "tuesday"]);
    fs::remove_file(desk.path("m/file")).unwrap();
    let twice = desk.say(&["snapshot", "m", "monday"]);
    assert_eq!(twice.status.code(), Some(1), "{}", String::from_utf8_lossy(&twice.stderr));
    assert!(!desk.say(&["snapshot", "m", "17"]).status.success(), "a number is a commit");
    desk.ok(&["-o", "ro", "a.st@monday", "m2"]);
    assert_eq!(fs::read(desk.path("m2/file")).unwrap(), b"monday");
    desk.ok(&["umount", "m2"]);
    desk.umount();

    assert_eq!(desk.ok(&["ls", "a.st"]), "new\n");
    assert_eq!(desk.ok(&["cat", "a.st@tuesday:file"]), "tuesday");
    let log: serde_json::Value = serde_json::from_str(&desk.ok(&["log", "--json", "a.st"])).unwrap();
    let states = log["states"].as_array().unwrap();
    let named = |name: &str| states.iter().find(|s| s["names"][0] == name).unwrap()["sequence"].as_u64().unwrap();
    assert!(named("monday") < named("tuesday"));
    assert_eq!(desk.ok(&["cat", &format!("a.st@{}:file", named("monday"))]), "monday");
    assert_eq!(desk.say(&["ls", "a.st@wednesday"]).status.code(), Some(10));

    desk.ok(&["restore", "a.st@monday"]);
    assert_eq!(desk.ok(&["ls", "a.st"]), "file\n");
    assert_eq!(desk.ok(&["cat", "a.st@tuesday:new"]), "new", "what came later is an earlier state now");
    desk.mount();
    fs::write(desk.path("m/after"), b"monday").unwrap();
    assert_eq!(fs::read(desk.path("m/file")).unwrap(), b"monday");
    desk.umount();
    desk.ok(&["snapshot", "--delete", "a.st", "tuesday"]);
    assert_eq!(desk.say(&["ls", "a.st@tuesday"]).status.code(), Some(10));
    desk.ok(&["check", "a.st"]);
    assert_eq!(desk.ok(&["cat", "a.st:after"]), "monday");
}

#[test]
fn compacting_keeps_the_present_and_the_named_states_and_gives_the_rest_back() {
    let Some(desk) = Desk::new() else { return };
    desk.mount();
    let noise = |seed: u32| -> Vec<u8> {
        (0..200_000u32).flat_map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 5).to_le_bytes()).collect()
    };
    fs::create_dir(desk.path("m/dir")).unwrap();
    fs::write(desk.path("m/dir/kept"), b"kept").unwrap();
    fs::write(desk.path("m/changed"), b"then").unwrap();
    fs::write(desk.path("m/removed"), noise(1)).unwrap();
    fs::hard_link(desk.path("m/dir/kept"), desk.path("m/hard")).unwrap();
    desk.ok(&["snapshot", "m", "then"]);
    desk.ok(&["snapshot", "m", "also-then"]);
    fs::write(desk.path("m/passing"), noise(2)).unwrap();
    desk.ok(&["sync", "m"]);
    fs::remove_file(desk.path("m/passing")).unwrap();
    fs::remove_file(desk.path("m/removed")).unwrap();
    fs::write(desk.path("m/changed"), b"now").unwrap();
    let sparse = File::create(desk.path("m/sparse")).unwrap();
    sparse.set_len(5_000_000).unwrap();
    sparse.write_all_at(b"middle", 2_500_000).unwrap();
    drop(sparse);
    for i in 0..50 {
        fs::write(desk.path("m/log"), format!("{i}")).unwrap();
        desk.ok(&["sync", "m"]);
    }
    let look = |place: &str| {
        let script =
            "find . -printf '%P %y %m %n %s %b %i %T@ %C@ %u %g %l\\n' | sort; find . -type f | sort | xargs md5sum";
        let out = Command::new("sh").args(["-c", script]).current_dir(desk.path(place)).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    desk.ok(&["sync", "m"]);
    desk.umount();
    let seen = |state: &str| {
        desk.ok(&["-o", "ro", state, "m2"]);
        let seen = look("m2");
        desk.ok(&["umount", "m2"]);
        seen
    };
    let (now, then) = (seen("a.st"), seen("a.st@then"));
    assert!(then.contains("removed") && !now.contains("removed"));
    let log: serde_json::Value = serde_json::from_str(&desk.ok(&["log", "--json", "a.st"])).unwrap();
    let before = fs::metadata(desk.path("a.st")).unwrap().len();

    desk.ok(&["compact", "-q", "--named", "a.st"]);
    let after = fs::metadata(desk.path("a.st")).unwrap().len();
    assert!(after < before - 500_000, "{before} → {after}");
    assert_eq!((seen("a.st"), seen("a.st@then")), (now.clone(), then.clone()));
    let newest = log["states"][0]["sequence"].as_u64().unwrap();
    assert_eq!(seen(&format!("a.st@{newest}")), now, "states keep their numbers");
    desk.ok(&["check", "a.st"]);

    // It is a container like others, and without names only the present is left.
    desk.mount();
    fs::write(desk.path("m/new"), b"new").unwrap();
    assert_eq!(fs::read(desk.path("m/dir/kept")).unwrap(), b"kept");
    assert_eq!(desk.say(&["compact", "-q", "a.st"]).status.code(), Some(11), "not while it is written to");
    desk.umount();
    desk.ok(&["snapshot", "--delete", "a.st", "then"]);
    desk.ok(&["snapshot", "--delete", "a.st", "also-then"]);
    desk.ok(&["compact", "-q", "-9", "--named", "a.st"]);
    assert!(fs::metadata(desk.path("a.st")).unwrap().len() < 30_000);
    assert_eq!(desk.ok(&["cat", "a.st:new"]), "new");
    desk.ok(&["check", "a.st"]);
}

fn a_full_disk_is_told_and_work_goes_on_when_there_is_room(desk: &Desk) {
    let disk = desk.path("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(&disk).output().unwrap();
    if !mounted.status.success() {
        assert!(std::env::var_os("CI").is_none(), "no tmpfs can be mounted");
        return println!("skipped: no tmpfs can be mounted");
    }
    let there = format!("disk/{}", desk.name);
    fs::copy(desk.path(desk.name), desk.path(&there)).unwrap();
    desk.ok(&["-o", "rw,commit=1h", &there, "m"]);
    synced(&desk.path("m/first"), b"before");
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..10_000_000).map(|_| next()).collect();
    let full = fs::write(desk.path("m/large"), &noise).and_then(|()| File::open(desk.path("m/large"))?.sync_all());
    assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
    fs::remove_file(desk.path("m/large")).unwrap();
    synced(&desk.path("m/small"), b"after");
    desk.umount();
    assert_eq!(desk.ok(&["ls", &there]), "first\nsmall\n");
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 1, "no journal is left");
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
}

fn a_repository_of_git_is_whole_when_it_is_mounted_again(desk: &Desk) {
    let sh = |script: &str| {
        let mut command = Command::new("sh");
        let out =
            command.args(["-ec", script]).current_dir(desk.path("m")).env("HOME", desk.path("")).output().unwrap();
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&[out.stdout, out.stderr].concat()));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    desk.mount();
    sh(
        "git init -q r; cd r; git config user.email a@b; git config user.name a; seq 1 5000 >a; git add a; git commit -qm one",
    );
    sh(
        "cd r; echo b >>a; git commit -qam two; git gc -q; git checkout -qb other; echo c >c; git add c; git commit -qm three",
    );
    desk.umount();
    desk.mount();
    assert_eq!(sh("cd r; git fsck --strict 2>&1; git status --porcelain"), "");
    assert_eq!(sh("cd r; git log --format=%s; git checkout -q - ; tail -1 a"), "three\ntwo\none\nb\n");
    desk.umount();
    desk.witnessed();
}

/// By a temporary file that is renamed over it, with a backup, and in place.
fn a_file_that_an_editor_saves_is_the_old_one_or_the_new_one(desk: &Desk) {
    desk.mount();
    fs::write(desk.path("m/text"), b"one").unwrap();
    desk.ok(&["commit", "m"]);
    fs::write(desk.path("m/.text.swp"), b"two").unwrap();
    fs::rename(desk.path("m/text"), desk.path("m/text~")).unwrap();
    fs::rename(desk.path("m/.text.swp"), desk.path("m/text")).unwrap();
    File::open(desk.path("m/text")).unwrap().sync_all().unwrap();
    desk.kill("-9");
    desk.mount();
    let read = |name: &str| fs::read_to_string(desk.path(name)).unwrap();
    assert_eq!((read("m/text"), read("m/text~")), ("two".into(), "one".into()));
    synced(&desk.path("m/text"), b"three, and more");
    fs::remove_file(desk.path("m/text~")).unwrap();
    desk.umount();
    desk.witnessed();
    desk.mount();
    assert_eq!(read("m/text"), "three, and more");
    assert_eq!(fs::read_dir(desk.path("m")).unwrap().count(), 1);
    desk.umount();
}
