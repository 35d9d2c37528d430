//! A server of ssh, on the loopback, and who is let in there.

#![allow(dead_code)]

use super::desk::{Desk, until};
use super::servers::{is_installed, noise};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A desk with a server of ssh, whose home directory `home` knows that server and has the key that lets it in.
pub struct Office {
    pub desk: Desk,
    pub server: Child,
    pub port: u16,
    pub user: String,
}

impl Drop for Office {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.server.wait();
    }
}

/// The process of another, as the kernel tells it.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

impl Office {
    pub fn new(options: &[&str]) -> Option<Self> {
        if !is_installed("sshd") || !is_installed("ssh-agent") {
            return None;
        }
        let desk = Desk::new()?;
        desk.has_own_cache();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/sshd.sh");
        let log = File::create(desk.path("sshd.log")).unwrap();
        let mut command = Command::new(script);
        command.arg(desk.path("")).arg(port.to_string()).args(options);
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let office = Self { desk, server, port, user: user.trim().to_owned() };
        until("the server answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        fs::create_dir_all(office.path("home/.ssh")).unwrap();
        fs::create_dir(office.path("root")).unwrap();
        office.knows(&office.key("host.pub"));
        office.has_key("client");
        Some(office)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.desk.path(name)
    }

    pub fn key(&self, name: &str) -> String {
        fs::read_to_string(self.path("ssh").join(name)).unwrap()
    }

    pub fn fingerprint(&self, name: &str) -> String {
        let told = Command::new("ssh-keygen").arg("-lf").arg(self.path("ssh").join(name)).output().unwrap().stdout;
        String::from_utf8(told).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    pub fn knows(&self, key: &str) {
        fs::write(self.path("home/.ssh/known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }

    pub fn has_key(&self, name: &str) {
        fs::write(self.path("home/.ssh/id_ed25519"), self.key(name)).unwrap();
    }

    pub fn address(&self, path: &str) -> String {
        format!("sftp://{}@127.0.0.1:{}{}/root/{path}", self.user, self.port, self.path("").display())
            .replace("//root/", "/root/")
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.desk.ok(args)
    }

    /// The exit code and what was said.
    pub fn fails(&self, args: &[&str]) -> (i32, String) {
        let said = self.desk.say(args);
        (said.status.code().unwrap_or(-1), String::from_utf8_lossy(&said.stderr).into_owned())
    }

    /// The server and all that it has started.
    pub fn processes(&self) -> Vec<Pid> {
        let server = self.server.id() as i32;
        let is_of_it = |pid: &i32| {
            let mut at = Some(*pid);
            while let Some(pid) = at {
                if pid == server {
                    return true;
                }
                at = parent(pid).filter(|pid| *pid > 1);
            }
            false
        };
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        all.filter(is_of_it).filter_map(Pid::from_raw).collect()
    }

    pub fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Fills `root/d`, and packs it into `root/x.st` and `root/x.zip`.
    pub fn pack(&self) {
        fs::create_dir_all(self.path("root/d/sub")).unwrap();
        fs::write(self.path("root/d/noise"), noise(3_000_000)).unwrap();
        fs::write(self.path("root/d/sub/text"), "a line of text\n".repeat(20_000)).unwrap();
        for name in ["root/x.st", "root/x.zip"] {
            self.ok(&["pack", "-q", "root/d", name]);
        }
    }
}
