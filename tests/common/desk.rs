//! The real program, with a container of its own and places to mount it.

#![allow(dead_code)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The directory for caches, where it is not that of the user.
const CACHE: &str = "own-cache";

const STMOUNT: &str = env!("CARGO_BIN_EXE_stmount");

/// A container, `a.st` where nothing else is said, in a directory of its own, to be mounted on `m`.
pub struct Desk {
    dir: tempfile::TempDir,
    /// Its name.
    pub name: &'static str,
}

impl Desk {
    /// `None` where nothing can be mounted; in CI everything can.
    pub fn new() -> Option<Self> {
        Self::of("a.st")
    }

    /// The same with a container whose name says its format.
    pub fn of(name: &'static str) -> Option<Self> {
        if File::options().read(true).write(true).open("/dev/fuse").is_err() {
            assert!(std::env::var_os("CI").is_none(), "no /dev/fuse");
            println!("skipped: no /dev/fuse");
            return None;
        }
        let desk = Self { dir: tempfile::tempdir().unwrap(), name };
        for dir in ["empty", "m", "m2"] {
            fs::create_dir(desk.path(dir)).unwrap();
        }
        desk.ok(&["pack", "-q", "empty", name]);
        Some(desk)
    }

    /// From now on nothing is found in the cache and the state that others have put there. Where there is a directory `home`, it
    /// is that of the user.
    pub fn has_own_cache(&self) {
        fs::create_dir(self.path(CACHE)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(STMOUNT);
        let args = super::dress::command(&mut command, args);
        if self.path(CACHE).exists() {
            command.env("STMOUNT_CACHE_DIR", self.path(CACHE)).env("STMOUNT_STATE_DIR", self.path("state"));
        }
        if self.path("home").exists() {
            command.env("HOME", self.path("home")).env_remove("SSH_AUTH_SOCK");
        }
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null()).env("NO_COLOR", "1");
        command
    }

    pub fn say(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.say(args);
        assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    }

    /// Mounts so that nothing is committed by itself while a test runs.
    #[track_caller]
    pub fn mount(&self) {
        self.mount_with("commit=1h");
    }

    #[track_caller]
    pub fn mount_with(&self, options: &str) {
        self.ok(&["-o", &format!("rw,{options}"), self.name, "m"]);
    }

    /// Whether it is a container of this project.
    pub fn is_st(&self) -> bool {
        self.name.ends_with(".st")
    }

    /// Whether it has room for what Unix has besides names and contents.
    pub fn has_hard_links(&self) -> bool {
        !self.name.ends_with(".7z")
    }

    /// What other programs say of the container.
    #[track_caller]
    pub fn witnessed(&self) {
        let commands: &[&[&str]] = match self.name.split_once('.').map(|(_, kind)| kind) {
            Some("zip") => &[&["unzip", "-tqq"], &["7z", "t", "-bso0", "-bsp0"], &["bsdtar", "-tf"]],
            Some("7z") => &[&["7z", "t", "-bso0", "-bsp0"], &["bsdtar", "-tf"]],
            Some("tar" | "tar.zst") => &[&["tar", "-tf"], &["bsdtar", "-tf"]],
            _ => return drop(self.ok(&["check", self.name])),
        };
        for command in commands {
            let done = Command::new(command[0]).args(&command[1..]).arg(self.path(self.name)).output().unwrap();
            let told = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
            // Of an archive with nothing in it unzip says that there is nothing in it.
            assert!(done.status.success() || told.contains("zipfile is empty"), "{command:?}: {told}");
        }
    }

    /// Nobody has anything to say against what is there then.
    #[track_caller]
    pub fn umount(&self) {
        self.ok(&["umount", "m"]);
        if !self.is_st() {
            self.witnessed();
        }
    }

    pub fn daemon(&self) -> i32 {
        let list: serde_json::Value = serde_json::from_str(&self.ok(&["list", "--json"])).unwrap();
        let point = self.path("m");
        let mounts = list["mounts"].as_array().unwrap();
        let mine = mounts.iter().find(|m| m["mountpoint"] == point.to_str().unwrap()).expect("it is mounted");
        mine["pid"].as_i64().unwrap() as i32
    }

    pub fn kill(&self, signal: &str) {
        let pid = self.daemon();
        // The shell has it, where no program is installed.
        let script = format!("kill {signal} {pid}");
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        until("the daemon is gone", || !Path::new(&format!("/proc/{pid}")).exists());
    }

    pub fn is_mounted(&self) -> bool {
        let point = format!(" {} ", self.path("m").display());
        fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&point)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for place in ["m", "m2"] {
            let _ = Command::new(STMOUNT).args(["umount", "-z"]).arg(self.path(place)).stderr(Stdio::null()).status();
        }
    }
}

#[track_caller]
pub fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not in 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
