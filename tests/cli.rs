//! The command as a person sees it: messages, exit codes, and what is left behind.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const STMOUNT: &str = env!("CARGO_BIN_EXE_stmount");

/// A directory to work in, which unmounts what was left mounted in it.
struct Desk {
    dir: tempfile::TempDir,
}

/// What came of one command.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A small folder `game`, packed as `game.st`.
    fn with_game() -> Self {
        let desk = Self::new();
        desk.write("game/readme.txt", b"read me\n");
        desk.write("game/data/level 1.bin", &noise(300_000));
        desk.write("game/start.sh", b"#!/bin/sh\necho started in $(basename \"$PWD\") with $1\nexit 7\n");
        fs::set_permissions(desk.path("game/start.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("readme.txt", desk.path("game/link")).unwrap();
        desk.ok(&["pack", "-q", "game", "game.st"]);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(STMOUNT);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null()).env("NO_COLOR", "1");
        command
    }

    fn say(&self, args: &[&str]) -> Said {
        said(self.command(args).output().unwrap())
    }

    /// Runs what has to succeed.
    fn ok(&self, args: &[&str]) -> String {
        let said = self.say(args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.err);
        said.out
    }

    /// Runs what has to fail with this code and this whole message; `DIR` stands for the desk.
    fn fails(&self, args: &[&str], code: i32, message: &str) {
        let said = self.say(args);
        let dir = self.path("");
        let shown = said.err.replace(dir.to_str().unwrap().trim_end_matches('/'), "DIR");
        assert_eq!((said.code, shown.as_str()), (code, message), "{args:?}");
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(self.path(dir)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn is_mounted(&self, name: &str) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.contains(&format!(" {} ", self.path(name).display().to_string().replace(' ', "\\040")))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let dir = self.path("");
        for place in table.lines().filter_map(|l| l.split(' ').nth(4)).map(|p| p.replace("\\040", " ")) {
            if Path::new(&place).starts_with(&dir) {
                let _ = Command::new(STMOUNT).args(["umount", "-z", &place]).status();
            }
        }
    }
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Whether mounts can be tested here; where it counts, their absence is a failure.
fn can_mount() -> bool {
    let can = Path::new("/dev/fuse").exists();
    assert!(can || std::env::var("CI").as_deref() != Ok("true"), "no /dev/fuse");
    can
}

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: u32, name: &str) {
    // By the `kill` of the shell: there may be no other.
    assert!(Command::new("sh").args(["-c", &format!("kill -{name} {child}")]).status().unwrap().success());
}

#[test]
fn what_makes_no_sense_is_told_with_the_nearest_that_does() {
    let desk = Desk::new();
    let said = desk.say(&["pack", "--forse", "a", "b.st"]);
    assert_eq!(said.code, 1);
    assert!(said.err.starts_with("stmount: unexpected argument '--forse' found\n"), "{}", said.err);
    assert!(said.err.contains("try: a similar argument exists: '--force'"), "{}", said.err);
    desk.fails(
        &["pck", "a", "b.st"],
        1,
        "stmount: there is no verb \"pck\"\n  try: stmount --help, which lists the verbs\n",
    );
    assert_eq!(desk.say(&[]).code, 1);
    assert_eq!(desk.say(&["--help"]).code, 0);
    desk.write("x.st", b"");
    fs::create_dir(desk.path("m")).unwrap();
    let said = desk.say(&["-o", "alow_other", "x.st", "m"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("alow_other") && said.err.contains("allow-other"), "{}", said.err);
}

#[test]
fn every_verb_ends_its_help_with_examples() {
    let desk = Desk::new();
    for verb in ["mount", "umount", "list", "run", "pack", "unpack", "ls", "cat", "info", "check", "generate"] {
        assert!(desk.ok(&[verb, "--help"]).contains("\nEXAMPLES\n  stmount "), "{verb}");
    }
}

#[test]
fn a_source_that_is_missing_or_of_no_known_format_has_its_own_code() {
    let desk = Desk::new();
    desk.write("notes.txt", b"no archive");
    fs::create_dir(desk.path("m")).unwrap();
    desk.fails(&["gone.st", "m"], 10, "stmount: cannot open gone.st: No such file or directory (os error 2)\n");
    for verb in [&["ls", "notes.txt"][..], &["notes.txt", "m"], &["check", "notes.txt"], &["info", "notes.txt"]] {
        let said = desk.say(verb);
        assert_eq!(said.code, 30, "{verb:?} {}", said.err);
        assert!(said.err.contains("notes.txt") && said.err.contains("\n  try: "), "{}", said.err);
    }
}

#[test]
fn packing_does_not_replace_a_file_unless_told_so() {
    let desk = Desk::with_game();
    desk.fails(&["pack", "game", "game.st"], 1, "stmount: game.st exists already\n  try: --force replaces it\n");
    assert!(desk.say(&["pack", "game", "game.st", "--force"]).err.contains(" files → "));
    desk.fails(&["pack", "gone", "x.st"], 10, "stmount: cannot open gone: No such file or directory (os error 2)\n");
    assert_eq!(desk.names(""), ["game", "game.st"]);
}

#[test]
fn a_container_inside_the_folder_does_not_pack_itself() {
    let desk = Desk::with_game();
    for _ in 0..2 {
        desk.ok(&["pack", "-q", "--force", "game", "game/own.st"]);
        assert!(!desk.ok(&["ls", "game/own.st"]).contains("own.st"));
    }
}

#[test]
fn several_sources_go_in_by_their_names() {
    let desk = Desk::with_game();
    desk.write("more/notes.txt", b"notes");
    desk.write("one.txt", b"one");
    desk.ok(&["pack", "-q", "more", "game", "one.txt", "all.st"]);
    assert_eq!(desk.ok(&["ls", "all.st"]), "game\nmore\none.txt\n");
    assert_eq!(
        desk.ok(&["cat", "all.st:more/notes.txt", "all.st:one.txt", "all.st:game/readme.txt"]),
        "notesoneread me\n"
    );
    desk.ok(&["pack", "-q", "one.txt", "one.st"]);
    assert_eq!(desk.ok(&["ls", "one.st"]), "one.txt\n");
    desk.fails(&["pack", "game", "./game", "x.st"], 1, "stmount: two sources have the name game\n");
    // A container gives what is in it.
    desk.ok(&["pack", "-q", "-1", "game.st", "again.st"]);
    assert_eq!(desk.ok(&["ls", "-lR", "again.st"]), desk.ok(&["ls", "-lR", "game.st"]));
}

#[test]
fn an_interrupted_pack_leaves_nothing() {
    let desk = Desk::new();
    fs::create_dir(desk.path("out")).unwrap();
    let mut child = desk.command(&["pack", "-9", "/usr/lib", "out/x.st"]).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(desk.names("out").is_empty());
}

#[test]
fn progress_can_be_read_by_programs() {
    let desk = Desk::with_game();
    let said = desk.say(&["pack", "--progress=json", "game", "other.st"]);
    let last: serde_json::Value = serde_json::from_str(said.err.lines().last().unwrap()).unwrap();
    assert_eq!(
        (last["type"].as_str(), last["op"].as_str(), last["exit"].as_u64()),
        (Some("summary"), Some("pack"), Some(0))
    );
    assert!(last["bytes"].as_u64().unwrap() > 300_000);
    assert_eq!(desk.say(&["pack", "-q", "game", "quiet.st"]).err, "");
}

#[test]
fn what_was_packed_is_listed_shown_and_unpacked() {
    let desk = Desk::with_game();
    assert_eq!(desk.ok(&["ls", "game.st"]), "data\nlink\nreadme.txt\nstart.sh\n");
    assert_eq!(desk.ok(&["ls", "-R", "game.st"]), "data\ndata/level 1.bin\nlink\nreadme.txt\nstart.sh\n");
    assert_eq!(desk.ok(&["ls", "game.st:data"]), "level 1.bin\n");
    let long = desk.ok(&["ls", "-l", "game.st"]);
    assert!(long.contains("-rwxr-xr-x") && long.contains(" link -> readme.txt\n"), "{long}");
    let json: serde_json::Value = serde_json::from_str(&desk.ok(&["ls", "--json", "-R", "game.st"])).unwrap();
    assert_eq!(json["entries"].as_array().unwrap().len(), 5);
    assert_eq!(desk.ok(&["cat", "game.st:readme.txt", "game.st:/readme.txt"]), "read me\nread me\n");
    desk.ok(&["unpack", "-q", "game.st", "copy"]);
    let same = Command::new("diff").args(["-r", "game", "copy"]).current_dir(desk.dir.path()).status().unwrap();
    assert!(same.success());
    assert_eq!(fs::read_link(desk.path("copy/link")).unwrap(), Path::new("readme.txt"));
}

#[test]
fn what_is_not_inside_is_told_with_source_and_path() {
    let desk = Desk::with_game();
    desk.fails(&["cat", "game.st:none"], 10, "stmount: game.st: none: no such file or directory\n");
    desk.fails(&["cat", "game.st:data"], 10, "stmount: game.st:data is a directory\n  try: stmount ls game.st:data\n");
    let said = desk.say(&["cat", "game.st:link"]);
    assert_eq!((said.code, said.err.contains("symbolic link to readme.txt")), (1, true));
    assert_eq!(desk.say(&["cat", "game.st"]).code, 1);
}

#[test]
fn containers_go_through_pipes() {
    let desk = Desk::with_game();
    let packed = desk.command(&["pack", "-q", "game", "-"]).output().unwrap();
    assert!(packed.status.success());
    assert_eq!(packed.stdout, fs::read(desk.path("game.st")).unwrap());
    fs::create_dir(desk.path("here")).unwrap();
    let mut child =
        desk.command(&["unpack", "-q"]).current_dir(desk.path("here")).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &packed.stdout).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(desk.names("here"), ["data", "link", "readme.txt", "start.sh"]);
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let desk = Desk::with_game();
    let mut child = desk.command(&["cat", "game.st:data/level 1.bin"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0));
}

#[test]
fn unpacking_over_files_skips_them_unless_told_otherwise() {
    let desk = Desk::with_game();
    desk.ok(&["unpack", "-q", "game.st", "copy"]);
    fs::write(desk.path("copy/readme.txt"), b"changed").unwrap();
    let said = desk.say(&["unpack", "-q", "game.st", "copy"]);
    assert_eq!(said.code, 3);
    assert!(said.err.contains("stmount: skipped readme.txt"), "{}", said.err);
    desk.ok(&["unpack", "-q", "--skip-existing", "game.st", "copy"]);
    assert_eq!(fs::read(desk.path("copy/readme.txt")).unwrap(), b"changed");
    desk.ok(&["unpack", "-q", "--overwrite", "game.st", "copy"]);
    assert_eq!(fs::read(desk.path("copy/readme.txt")).unwrap(), b"read me\n");
}

#[test]
fn a_folder_is_not_unpacked_into_itself() {
    let desk = Desk::with_game();
    for target in ["game", "game/new/deep"] {
        let said = desk.say(&["unpack", "game", target]);
        assert_eq!(said.code, 1, "{}", said.err);
        assert!(said.err.contains("into itself"), "{}", said.err);
    }
    assert!(!desk.path("game/new").exists());
    desk.ok(&["unpack", "-q", "game", "game2"]);
    assert!(desk.path("game2/readme.txt").exists());
}

#[test]
fn damage_is_found_and_the_file_named() {
    let desk = Desk::with_game();
    assert_eq!(desk.say(&["check", "game.st"]).code, 0);
    let mut bytes = fs::read(desk.path("game.st")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(desk.path("bad.st"), bytes).unwrap();
    let said = desk.say(&["check", "bad.st"]);
    assert_eq!(said.code, 50, "{}", said.err);
    assert!(said.out.contains("data/level 1.bin: "), "{}", said.out);
    let json: serde_json::Value = serde_json::from_str(&desk.say(&["check", "--json", "-q", "bad.st"]).out).unwrap();
    assert_eq!(json["damaged"][0]["path"], "data/level 1.bin");
    assert_eq!(desk.say(&["cat", "bad.st:data/level 1.bin"]).code, 50);
    assert_eq!(desk.ok(&["cat", "bad.st:start.sh"]).lines().count(), 3);
}

#[test]
fn status_tells_of_the_cache_and_of_what_failed() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    let mut bytes = fs::read(desk.path("game.st")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(desk.path("bad.st"), bytes).unwrap();
    for (options, place) in [("rw,cachesize=16M", "rw"), ("ro,cachesize=16M", "ro")] {
        fs::create_dir(desk.path(place)).unwrap();
        desk.ok(&["-o", options, "bad.st", place]);
        let status = || -> serde_json::Value {
            serde_json::from_str(&desk.ok(&["status", "--json", place])).expect("the status is JSON")
        };
        assert_eq!(status()["errors"], serde_json::json!([]));
        let read = || fs::read(desk.path(place).join("data/level 1.bin"));
        assert_eq!(read().unwrap_err().raw_os_error(), Some(5));
        read().unwrap_err();
        assert_eq!(fs::read(desk.path(place).join("readme.txt")).unwrap(), b"read me\n");
        let after = status();
        let errors = after["errors"].as_array().unwrap();
        assert_eq!((errors.len(), &errors[0]["file"]), (1, &"data/level 1.bin".into()), "{after}");
        assert!(errors[0]["times"].as_u64().unwrap() >= 2 && errors[0]["time"].as_i64().unwrap() > 1_600_000_000);
        let cache = &after["cache"];
        assert_eq!(cache["budget"], 16 << 20);
        assert!(["hits", "misses", "bytes"].iter().all(|figure| cache[figure].as_u64().unwrap() > 0), "{cache}");
        let text = desk.ok(&["status", place]);
        assert!(text.contains(" of 16.0 MiB, ") && text.contains("data/level 1.bin: "), "{text}");
        assert_eq!(text.starts_with("read-only"), place == "ro", "{text}");
    }
}

#[test]
fn info_tells_what_reading_costs() {
    let desk = Desk::with_game();
    let text = desk.ok(&["info", "game.st"]);
    assert!(text.contains("a random read decodes "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&desk.ok(&["info", "--json", "game.st"])).unwrap();
    assert_eq!((json["v"].as_u64(), json["format"].as_str()), (Some(1), Some("st")));
    assert_eq!((json["tables"].as_u64(), json["states"].as_u64()), (Some(1), Some(1)));
    desk.ok(&["snapshot", "game.st", "packed"]);
    let json: serde_json::Value = serde_json::from_str(&desk.ok(&["info", "--json", "game.st"])).unwrap();
    assert_eq!(json["states"].as_u64(), Some(2), "the one that was packed, and the one that names it");
    let log: serde_json::Value = serde_json::from_str(&desk.ok(&["log", "--json", "game.st"])).unwrap();
    assert_eq!(log["states"].as_array().unwrap().len(), 2);
}

#[test]
fn the_manual_and_the_completions_are_made_from_the_command_line() {
    let desk = Desk::new();
    desk.ok(&["generate", "man", "man"]);
    let pages = desk.names("man");
    assert!(pages.contains(&"stmount.1".into()) && pages.contains(&"stmount-pack.1".into()), "{pages:?}");
    assert!(!pages.iter().any(|p| p.contains("helper")), "{pages:?}");
    let page = fs::read_to_string(desk.path("man/stmount.1")).unwrap();
    assert!(page.contains("EXIT STATUS") && page.contains("damaged and cannot be repaired"));
    for shell in ["bash", "zsh", "fish"] {
        let text = desk.ok(&["generate", "completions", shell]);
        assert!(text.contains("stmount") && !text.contains("helper"), "{shell}");
    }
}

#[test]
fn a_bad_mount_point_is_told_with_a_way_out() {
    let desk = Desk::with_game();
    let said = desk.say(&["game.st", "missing"]);
    assert_eq!(said.code, 14);
    assert!(said.err.contains("missing") && said.err.contains("mkdir"), "{}", said.err);
    let hint = "  try: another directory, or -o nonempty to cover what is in it\n";
    desk.fails(&["game.st", "game"], 14, &format!("stmount: DIR/game is not empty\n{hint}"));
    assert_eq!(desk.say(&["game.st", "game.st"]).code, 14);
    fs::create_dir(desk.path("game/m")).unwrap();
    let inside = "stmount: the mount point DIR/game/m is inside the source DIR/game\n  try: a mount point elsewhere\n";
    desk.fails(&["game", "game/m"], 14, inside);
    let covers = "stmount: the source DIR/game.st is inside the mount point DIR\n  try: a mount point elsewhere\n";
    desk.fails(&["-o", "nonempty", "game.st", "."], 14, covers);
}

#[test]
fn a_mount_is_ready_when_the_command_returns_and_gone_when_umount_does() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    fs::create_dir(desk.path("m, #1")).unwrap();
    // As `out=$(stmount ... 2>&1)`: this returns only when the daemon has let go of both.
    let begun = Instant::now();
    assert_eq!(desk.ok(&["game.st", "m, #1"]), "");
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(fs::read(desk.path("m, #1/readme.txt")).unwrap(), b"read me\n");
    let list: serde_json::Value = serde_json::from_str(&desk.ok(&["list", "--json"])).unwrap();
    let own =
        list["mounts"].as_array().unwrap().iter().find(|m| m["mountpoint"] == desk.path("m, #1").to_str().unwrap());
    let own = own.expect("it is listed");
    assert_eq!((own["format"].as_str(), own["mode"].as_str()), (Some("st"), Some("rw")));
    let words = fs::read(format!("/proc/{}/cmdline", own["pid"])).unwrap();
    assert!(String::from_utf8_lossy(&words).contains("game.st\0m, #1"), "ps shows source and mount point");
    assert_eq!(desk.say(&["game.st", "m, #1"]).code, 14);
    desk.ok(&["umount", "game.st"]);
    assert!(!desk.is_mounted("m, #1"));
    assert!(!running(own["pid"].as_u64().unwrap()), "the daemon is gone");
    let said = desk.say(&["-u", "m, #1"]);
    assert_eq!((said.code, said.err.contains("is not mounted")), (10, true), "{}", said.err);
}

fn running(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[test]
fn without_a_mount_point_one_is_made_and_removed() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    let told = desk.ok(&["game.st"]);
    assert_eq!(told.trim_end(), desk.path("game (1)").to_str().unwrap());
    assert!(desk.path("game (1)/readme.txt").exists());
    desk.ok(&["umount", "game (1)"]);
    assert_eq!(desk.names(""), ["game", "game.st"]);
    // A mount that fails leaves none either.
    desk.write("bad.st", b"nothing");
    assert_eq!(desk.say(&["bad.st"]).code, 30);
    assert_eq!(desk.names(""), ["bad.st", "game", "game.st"]);
}

#[test]
fn who_keeps_a_mount_busy_is_named() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    fs::create_dir(desk.path("m")).unwrap();
    desk.ok(&["game.st", "m"]);
    let mut holder = sleeper(&desk.path("m/data"));
    let said = desk.say(&["umount", "m"]);
    let line = format!("\n  cat ({}) has its working directory in {}\n", holder.id(), desk.path("m/data").display());
    assert_eq!(said.code, 60);
    assert!(said.err.contains(&line), "{}", said.err);
    assert!(desk.is_mounted("m"));
    desk.ok(&["umount", "-z", "m"]);
    assert!(!desk.is_mounted("m"));
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

fn sleeper(cwd: &Path) -> Child {
    Command::new("cat").current_dir(cwd).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_signal_to_the_daemon_unmounts() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    fs::create_dir(desk.path("m")).unwrap();
    for name in ["TERM", "INT", "HUP"] {
        let mut daemon = desk.command(&["-f", "game.st", "m"]).spawn().unwrap();
        until("mounted", || desk.path("m/readme.txt").exists());
        signal(daemon.id(), name);
        assert_eq!(daemon.wait().unwrap().code(), Some(0), "{name}");
        assert!(!desk.is_mounted("m"), "{name}");
    }
}

#[test]
fn a_mount_that_lost_its_daemon_is_taken_away() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    fs::create_dir(desk.path("m")).unwrap();
    for again in [&["umount", "m"][..], &["game.st", "m"]] {
        let mut daemon = desk.command(&["-f", "game.st", "m"]).spawn().unwrap();
        until("mounted", || desk.path("m/readme.txt").exists());
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert!(desk.is_mounted("m"));
        desk.ok(again);
    }
    assert!(desk.path("m/readme.txt").exists());
    desk.ok(&["umount", "m"]);
    assert!(!desk.is_mounted("m"));
}

#[test]
fn a_mount_that_was_detached_is_not_listed_beside_its_replacement() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    fs::create_dir(desk.path("m")).unwrap();
    fs::copy(desk.path("game.st"), desk.path("next.st")).unwrap();
    let listed = || -> Vec<(String, u64)> {
        let list: serde_json::Value = serde_json::from_str(&desk.ok(&["list", "--json"])).unwrap();
        let here =
            list["mounts"].as_array().unwrap().iter().filter(|m| m["mountpoint"] == desk.path("m").to_str().unwrap());
        here.map(|m| (m["source"].as_str().unwrap().to_owned(), m["pid"].as_u64().unwrap())).collect()
    };
    desk.ok(&["game.st", "m"]);
    let first = listed()[0].1;
    let held = fs::File::open(desk.path("m/readme.txt")).unwrap();
    desk.ok(&["umount", "-z", "m"]);
    assert!(running(first), "somebody has a file of it open");
    desk.ok(&["next.st", "m"]);
    let next = desk.path("next.st").to_str().unwrap().to_owned();
    let alone = |listed: Vec<(String, u64)>| listed.len() == 1 && listed[0].0 == next;
    assert!(alone(listed()), "{:?}", listed());
    signal(first as u32, "KILL");
    until("the first daemon is gone", || !running(first));
    assert!(alone(listed()), "{:?}", listed());
    assert!(!Path::new(&format!("/run/stmount/{first}.json")).exists());
    assert!(running(listed()[0].1));
    drop(held);
    desk.ok(&["umount", "m"]);
}

#[test]
fn run_passes_words_directory_and_code() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    let said = desk.say(&["run", "game.st", "--", "./start.sh", "-x"]);
    assert_eq!((said.code, said.out.as_str()), (7, "started in game with -x\n"), "{}", said.err);
    assert_eq!(desk.say(&["run", "game.st", "--", "sh", "-c", "kill -TERM $$"]).code, 143);
    let said = desk.say(&["run", "game.st", "--", "start.sh"]);
    assert_eq!((said.code, said.err.contains("try: ./start.sh")), (127, true), "{}", said.err);
    assert_eq!(desk.say(&["run", "gone.st", "--", "true"]).code, 10);
    let said = desk.say(&["run", "game.st", "./start.sh"]);
    assert_eq!((said.code, said.err.contains("-- ./start.sh")), (14, true), "{}", said.err);
}

#[test]
fn run_waits_for_the_last_descendant() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    fs::create_dir(desk.path("m")).unwrap();
    // A launcher that ends at once, and a game in a session of its own that goes on and reads from the mount.
    let game = "setsid sh -c 'sleep 1; cat readme.txt > \"$1\"' - \"$1\" & exit 5";
    let out = desk.path("out");
    let said = desk.say(&["run", "game.st", "m", "--", "sh", "-c", game, "-", out.to_str().unwrap()]);
    assert_eq!(said.code, 5, "{}", said.err);
    assert_eq!(fs::read(&out).unwrap(), b"read me\n");
    assert!(!desk.is_mounted("m"));
}

#[test]
fn run_hands_signals_on_and_its_mount_does_not_outlive_it() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    fs::create_dir(desk.path("m")).unwrap();
    let game = "trap 'exit 9' TERM; : > \"$1\"; while :; do sleep 0.1; done";
    let ready = desk.path("ready");
    let words = ["run", "game.st", "m", "--", "sh", "-c", game, "-", ready.to_str().unwrap()];
    let mut run = desk.command(&words).spawn().unwrap();
    until("the game runs", || ready.exists());
    signal(run.id(), "TERM");
    assert_eq!(run.wait().unwrap().code(), Some(9));
    assert!(!desk.is_mounted("m"));
    let mut run = desk.command(&["run", "game.st", "m", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    until("mounted", || desk.is_mounted("m"));
    let stdin = run.stdin.take();
    run.kill().unwrap();
    run.wait().unwrap();
    drop(stdin);
    until("the mount ends with its last user", || !desk.is_mounted("m"));
}

#[test]
fn names_that_are_not_text_and_names_of_verbs_are_mounted_like_others() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    let odd = desk.path("").join(OsStr::from_bytes(b"od\xffd\n\"x.st"));
    fs::copy(desk.path("game.st"), &odd).unwrap();
    fs::copy(desk.path("game.st"), desk.path("list")).unwrap();
    for source in [odd.as_os_str(), OsStr::new("./list")] {
        fs::create_dir_all(desk.path("m")).unwrap();
        let said = said(desk.command(&[]).arg(source).arg("m").output().unwrap());
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(desk.path("m/readme.txt").exists());
        desk.ok(&["umount", "m"]);
    }
}

#[test]
fn the_helpers_of_mount_are_understood() {
    if !can_mount() {
        return;
    }
    let desk = Desk::with_game();
    fs::create_dir(desk.path("m")).unwrap();
    symlink(STMOUNT, desk.path("mount.fuse.stmount")).unwrap();
    symlink(STMOUNT, desk.path("umount.fuse.stmount")).unwrap();
    let helper = |name: &str, args: &[&str]| {
        said(Command::new(desk.path(name)).args(args).current_dir(desk.dir.path()).output().unwrap())
    };
    let said = helper("mount.fuse.stmount", &["game.st", "m", "-n", "-o", "rw,nofail,_netdev", "-t", "fuse.stmount"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(desk.path("m/readme.txt").exists());
    assert_eq!(helper("umount.fuse.stmount", &["m", "-t", "fuse.stmount"]).code, 0);
    assert!(!desk.is_mounted("m"));
}

// ---- create and recover -----------------------------------------------------------------------------------------------

#[test]
fn an_empty_container_is_made_and_never_over_another() {
    let desk = Desk::new();
    assert_eq!(desk.ok(&["create", "disk.st"]), "");
    let first = fs::read(desk.path("disk.st")).unwrap();
    assert_eq!(desk.ok(&["ls", "disk.st"]), "");
    desk.ok(&["check", "disk.st"]);
    let owner = fs::metadata(desk.path("disk.st")).unwrap();
    let listed = desk.ok(&["info", "--json", "disk.st"]);
    assert!(listed.contains("\"files\":1"), "{listed}");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), rustix::process::geteuid().as_raw());
    desk.fails(&["create", "disk.st"], 1, "stmount: disk.st exists already\n  try: --force replaces it\n");
    assert_eq!(fs::read(desk.path("disk.st")).unwrap(), first);
    desk.ok(&["create", "--force", "disk.st"]);
    assert_ne!(fs::read(desk.path("disk.st")).unwrap(), first, "the identity is not random");
    desk.fails(
        &["create", "no/disk.st"],
        10,
        "stmount: cannot write no/disk.st: No such file or directory (os error 2)\n",
    );
    assert_eq!(desk.names(""), ["disk.st"]);
}

#[test]
fn a_damaged_container_is_recovered_and_what_is_missing_is_told() {
    let desk = Desk::with_game();
    let whole = fs::read(desk.path("game.st")).unwrap();
    assert_eq!(desk.ok(&["recover", "game.st"]), "");
    assert!(fs::read(desk.path("game.st")).unwrap() == whole);

    let mut bytes = [&whole[..], b"garbage"].concat();
    bytes[..4096].fill(0);
    desk.write("game.st", &bytes);
    let lines =
        "the header is lost: it gets a new one\n7 bytes behind the last commit belong to nothing: they are cut off\n";
    let said = desk.say(&["recover", "--dry-run", "game.st"]);
    let words = "game.st: 6 files: everything is there again (nothing was written)\n";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, lines, words));
    assert!(fs::read(desk.path("game.st")).unwrap() == bytes, "a dry run wrote something");
    assert_eq!(desk.ok(&["recover", "game.st"]), lines);
    assert!(fs::read(desk.path("game.st")).unwrap() == whole);

    let writer = stmount::source::FileSource::open_to_write(&desk.path("game.st")).unwrap();
    writer.lock().unwrap();
    let locked = "stmount: game.st: another process has it open to write\n  try: `stmount list` shows who; `-o ro` mounts the \
        last committed state\n";
    desk.fails(&["recover", "game.st"], 11, locked);
    drop(writer);

    // Its only commit, and then a segment as well.
    let commit = whole.windows(5).rposition(|bytes| bytes == b"\xabSTR\x04").unwrap();
    bytes = whole.clone();
    bytes[commit..].fill(0);
    desk.write("game.st", &bytes);
    let said = desk.say(&["recover", "game.st"]);
    assert_eq!((said.code, said.out.as_str()), (0, "1 change without a whole commit: a new one takes them in\n"));
    assert_eq!(desk.ok(&["cat", "game.st:readme.txt"]), "read me\n");
    bytes[4096 + 96 + 200] ^= 1;
    desk.write("game.st", &bytes);
    let said = desk.say(&["recover", "game.st"]);
    assert_eq!(said.code, 3, "{}{}", said.out, said.err);
    assert!(
        said.out.contains(" cannot be read\n") && said.err.contains("something is missing"),
        "{}{}",
        said.out,
        said.err
    );

    desk.write("game.st", &whole[..4096]);
    let said = desk.say(&["recover", "game.st"]);
    assert_eq!(said.code, 31, "{}", said.err);
    assert!(said.err.starts_with("stmount: game.st: nothing is in it that can be recovered"), "{}", said.err);
    assert_eq!(fs::read(desk.path("game.st")).unwrap().len(), 4096);
    assert_eq!(desk.say(&["recover", "none.st"]).code, 10);
}
