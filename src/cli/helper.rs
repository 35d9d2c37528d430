//! What mount(8) and umount(8) call for a line of fstab or `mount -t stmount`.
//!
//! ```text
//!  mount.stmount SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
//!  umount.fuse.stmount DIR [-flnrv] [-N NAMESPACE] [-t TYPE]
//! ```

use super::args;
use super::{daemon, exit, unmount};
use crate::error::{Error, Kind, Result};
use crate::mount::session::Register;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Options that mount(8) always adds, or that say what is the case anyway.
const IMPLIED: &[&str] = &["rw", "nonempty"];

#[derive(Debug, Default, PartialEq, Eq)]
struct Called {
    operands: Vec<PathBuf>,
    options: Vec<String>,
    /// Letters of flags without a value.
    flags: String,
}

pub fn mount(words: &[OsString]) -> Result<u8> {
    super::logging::start(0, false, false);
    let called = parse(words);
    let [source, mountpoint] = called.operands.as_slice() else {
        return Err(Error::new(Kind::Usage, "mount.stmount needs a source and a mount point")
            .hint("mount -t stmount game.st /mnt/game"));
    };
    if called.flags.contains('f') {
        return Ok(exit::OK);
    }
    let mut option: Vec<String> = called.options.iter().map(|o| without_implied(o)).filter(|o| !o.is_empty()).collect();
    // fstab lines mount over whatever is there, as for every other file system.
    option.push("nonempty".into());
    let mount = args::Mount {
        source: source.clone(),
        mountpoint: Some(mountpoint.clone()),
        options: args::MountOptions { option, read_only: called.flags.contains('r'), ..args::MountOptions::default() },
        foreground: false,
        debug: false,
        log_file: None,
    };
    let (quiet, verbose) = (!called.flags.contains('v'), 0);
    let common = args::Common { quiet, verbose, progress: args::Progress::None };
    daemon::mount(&mount, &common)
}

pub fn umount(words: &[OsString]) -> Result<u8> {
    super::logging::start(0, false, false);
    let called = parse(words);
    let [mountpoint] = called.operands.as_slice() else {
        return Err(Error::new(Kind::Usage, "umount.stmount needs a mount point"));
    };
    let lazy = called.flags.contains('l');
    unmount::one(&Register::of_user(), mountpoint, lazy, !lazy, None).map(|()| exit::OK)
}

fn parse(words: &[OsString]) -> Called {
    let mut called = Called::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"-o" => called.options.extend(words.next().map(|o| o.to_string_lossy().into_owned())),
            b"-t" | b"-N" => drop(words.next()),
            [b'-', flags @ ..] if !flags.is_empty() => called.flags.push_str(&String::from_utf8_lossy(flags)),
            _ => called.operands.push(word.into()),
        }
    }
    called
}

/// mount(8) writes `rw` for `defaults`; without a word of the user it means nothing here. A backslash keeps its comma.
fn without_implied(list: &str) -> String {
    list.split(',').filter(|o| !IMPLIED.contains(o)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_mount_are_understood() {
        let words: Vec<OsString> =
            ["/x y.st", "/mnt", "-n", "-sv", "-o", "rw,noatime,cachesize=1G", "-t", "fuse.stmount"]
                .map(Into::into)
                .into();
        let called = parse(&words);
        assert_eq!(called.operands, [PathBuf::from("/x y.st"), PathBuf::from("/mnt")]);
        assert_eq!(
            (called.flags.as_str(), without_implied(&called.options[0])),
            ("nsv", "noatime,cachesize=1G".into())
        );
    }
}
