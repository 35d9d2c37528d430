//! Archives that are made on a server: packed here, and sent when they are whole. `put` sends one that is there.
//!
//! ```text
//!   the name is free? the lease ─► STATE/uploads/NAME ── packed, synced ──► sent, looked at ──► the draft goes
//!                                                                              └ could not be: it stays, and is named
//! ```

use super::args::{self, Common};
use super::pack::cancelled;
use super::progress::Progress;
use super::{plan, say};
use crate::error::{Error, Kind, Result};
use crate::formats::{Pack, Packed};
use crate::open::{self, How, There};
use crate::remote;
use crate::source::{FileSource, ReadAt, free_in};
use crate::tree::Tree;
use serde_json::json;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Less room than this is none.
const LEAST: u64 = 16 << 20;

/// Names of drafts that are tried.
const NAMES: u32 = 1000;

/// A file with a name that lasts until it is on the server.
struct Draft {
    file: File,
    path: PathBuf,
}

impl Draft {
    fn new(name: &str) -> Result<Self> {
        let dir = open::drafts()?;
        let free = free_in(&dir)?;
        if free < LEAST {
            let what = format!("{}: {} are free, and it is packed there first", dir.display(), say::size(free));
            return Err(Error::new(Kind::NoSpace, what).hint("set STMOUNT_STATE_DIR to where there is room"));
        }
        for number in 1..=NAMES {
            let path = match number {
                1 => dir.join(name),
                _ => dir.join(format!("{number}-{name}")),
            };
            match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Self { file, path }),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(e, format!("cannot make {}", path.display()))),
            }
        }
        Err(Error::new(Kind::Exists, format!("no name is free in {}", dir.display())))
    }
}

/// Packs a tree into an archive on a server.
pub fn pack(
    packer: &dyn Pack,
    tree: &dyn Tree,
    address: &str,
    (over, how): (bool, &How),
    progress: &Progress,
) -> Result<Packed> {
    let there = There::of(address, how)?;
    let lease = there.claim(over)?;
    let name = remote::name_of(address).unwrap_or_default();
    let draft = Draft::new(&name)?;
    let path = draft.path.clone();
    let packed = progress.guard(
        move || drop(fs::remove_file(&path)),
        || {
            let packed = packer.pack_to_file(tree, &mut &draft.file, progress)?;
            cancelled(progress)?;
            draft.file.sync_all().map_err(|e| Error::io(e, format!("cannot write {}", draft.path.display())))?;
            Ok(packed)
        },
    );
    let packed = packed.inspect_err(|_| drop(fs::remove_file(&draft.path))).map_err(|e: Error| match e.kind() {
        Kind::NoSpace => e.within(draft.path.display()).hint("set STMOUNT_STATE_DIR to where there is room"),
        _ => e,
    })?;
    let sent = lease.check().and_then(|()| send(&there, &draft.path, over, progress));
    match sent {
        Ok(_) => {
            fs::remove_file(&draft.path).unwrap_or_else(|e| log::warn!("{}: {e}", draft.path.display()));
            Ok(packed)
        }
        Err(e) => {
            let path = draft.path.display();
            let what = format!("{}: it is packed and not on the server: {e}", there.shown());
            Err(Error::new(Kind::NotUploaded, what)
                .hint(format!("it is in {path}: stmount put --move {path} {}", there.shown())))
        }
    }
}

/// Sends a file, and follows it. How many bytes it has.
fn send(there: &There, file: &Path, over: bool, progress: &Progress) -> Result<u64> {
    let bytes = FileSource::open(file)?;
    let len = bytes.len()?;
    progress.set(len, 0);
    progress.guard(
        || (),
        || {
            there.send(&bytes, over, &mut |gone| {
                progress.set(len, gone);
                cancelled(progress)
            })
        },
    )?;
    Ok(len)
}

/// `stmount put`.
pub fn put(given: &args::Put, common: &Common) -> Result<u8> {
    let to = given.to.display();
    let Some(address) = remote::is_address(&given.to) else {
        return Err(
            Error::new(Kind::Usage, format!("{to} is no address")).hint("stmount put game.st s3://BUCKET/game.st")
        );
    };
    let name = given.file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let address = match remote::is_folder(address) {
        true => remote::beside(&format!("{address}x"), name),
        false => Some(address.to_owned()),
    };
    let address = address.ok_or_else(|| Error::new(Kind::Usage, format!("{to}: it names no file")))?;
    let progress = Progress::new("put", common);
    let how = plan::how_at(&given.passwords, &given.link, progress.clone())?;
    let meta = fs::metadata(&given.file).map_err(|e| Error::io(e, format!("cannot open {}", given.file.display())))?;
    if meta.is_dir() {
        return Err(Error::new(Kind::IsADirectory, format!("{}: it is a directory", given.file.display()))
            .hint("stmount pack DIR s3://BUCKET/game.st"));
    }
    let there = There::of(&address, &how)?;
    let done = there.claim(given.force).and_then(|lease| {
        let len = send(&there, &given.file, given.force, &progress)?;
        drop(lease);
        if given.move_it {
            let gone = fs::remove_file(&given.file);
            gone.map_err(|e| Error::io(e, format!("cannot remove {}", given.file.display())))?;
        }
        Ok(len)
    });
    let told = done.map(|len| {
        let words = format!("{} → {} ({})", say::size(len), there.shown(), say::time(progress.took()));
        (words, json!({"bytes": len}), 0)
    });
    super::pack::finish(told, &progress)
}
