//! `prefetch`, `pin` and `unpin`: what is at an address comes here before it is needed, and stays.

use super::args::{self, Common};
use super::progress::Progress;
use super::{exit, plan, say, text_out};
use crate::error::{Error, Kind, Result, Within};
use crate::formats::{Unwatched, Volume, Watch, st};
use crate::jobs::warm::{self, Warmed};
use crate::mount::session::{Register, absolute};
use crate::open::{self, How};
use crate::remote;
use crate::source::{Depot, Pin};
use crate::tree::{find_path, path_display};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often it is tried to keep all of it.
const TRIES: u32 = 3;

/// Something at an address, or in a mount.
struct Wanted {
    source: PathBuf,
    path: Vec<u8>,
}

impl Wanted {
    fn name(&self) -> String {
        let source = remote::shown(&self.source.display().to_string());
        if self.path.is_empty() { source } else { format!("{source}!{}", path_display(&self.path)) }
    }
}

pub fn prefetch(given: &args::Prefetch, common: &Common) -> Result<u8> {
    let progress = Progress::new("prefetch", common);
    let how = plan::how_kept(&given.opening, given.place.options(), progress.clone())?;
    let (mut sum, mut words) = (Warmed::default(), String::new());
    for operand in &given.sources {
        let wanted = wanted(operand);
        let is_mounted = mount_of(&wanted.source)?.is_some();
        if !is_mounted && depot(&how).is_none() && remote::is_address(&wanted.source).is_some() {
            return Err(nowhere());
        }
        let read = progress.guard(|| {}, || read(&wanted, &how, &progress)).within(|| wanted.name())?;
        sum = Warmed { files: sum.files + read.files, bytes: sum.bytes + read.bytes, failed: sum.failed + read.failed };
        words = format!("{} in {}", say::size(sum.bytes), say::counted(sum.files, "file", "files"));
    }
    let traffic = how.far.meter.traffic();
    let fetched = format!("{words}; {} fetched", say::size(traffic.bytes));
    let code = code_of(sum);
    let summary = json!({"bytes": sum.bytes, "files": sum.files, "failed": sum.failed, "fetched": traffic.bytes});
    progress.finish(&fetched, summary, code);
    Ok(code)
}

pub fn pin(given: &args::Pin, common: &Common) -> Result<u8> {
    if given.sources.is_empty() {
        let how = plan::how_kept(&given.opening, given.place.options(), Arc::new(Unwatched))?;
        return list(depot(&how).ok_or_else(nowhere)?, given.json);
    }
    let progress = Progress::new("pin", common);
    let (mut pins, mut failed) = (Vec::new(), 0);
    for operand in &given.sources {
        let wanted = at_its_address(wanted(operand))?;
        let (mut pinned, mut tries) = (pin_one(&wanted, given, &progress)?, 1);
        // Somebody else has made room meanwhile. What is pinned by now he leaves alone.
        while pinned.1 > 0 && tries < TRIES {
            (pinned, tries) = (pin_one(&wanted, given, &progress)?, tries + 1);
        }
        let (pin, missing, lost) = pinned;
        if missing > 0 {
            let what = format!("{}: {missing} parts of it could not be kept", wanted.name());
            return Err(Error::new(Kind::NoSpace, what).hint("make room on the disk, and pin it again"));
        }
        failed += lost;
        pins.push(pin);
    }
    let bytes = pins.iter().map(|pin| pin.bytes).sum();
    let names = pins.iter().map(|pin| pin.name.as_str()).collect::<Vec<_>>().join(", ");
    let code = code_of(Warmed { failed, ..Warmed::default() });
    progress.finish(&format!("pinned {names}: {}", say::size(bytes)), json!({"bytes": bytes, "failed": failed}), code);
    Ok(code)
}

/// Reads what is to be pinned, and pins it: what it is, how much of it could not be kept, and how many files could not be read.
fn pin_one(wanted: &Wanted, given: &args::Pin, progress: &Arc<Progress>) -> Result<(Pin, u64, u64)> {
    // With nothing in memory: what is there already is not seen to be used.
    let how = plan::how_kept(&given.opening, given.place.options(), progress.clone())?;
    let depot = depot(&how).ok_or_else(nowhere)?;
    depot.note();
    let read = progress.guard(|| {}, || read(wanted, &how, progress)).within(|| wanted.name())?;
    let pinned = depot.pin(&wanted.name());
    let (pin, missing) = pinned.map_err(|e| Error::io(e, "cannot write down what is pinned"))?;
    Ok((pin, missing, read.failed))
}

pub fn unpin(given: &args::Unpin) -> Result<u8> {
    let how = plan::how_kept(&given.opening, given.place.options(), Arc::new(Unwatched))?;
    let depot = depot(&how).ok_or_else(nowhere)?;
    let names: Vec<String> = match given.all {
        true => depot.pins().into_iter().map(|pin| pin.name).collect(),
        false => {
            let one = |operand: &OsString| at_its_address(wanted(operand)).map(|wanted| wanted.name());
            given.sources.iter().map(one).collect::<Result<_>>()?
        }
    };
    for name in names {
        if !depot.unpin(&name).map_err(|e| Error::io(e, format!("cannot unpin {name}")))? {
            return Err(
                Error::new(Kind::NotFound, format!("{name} is not pinned")).hint("stmount pin, which lists what is")
            );
        }
    }
    Ok(exit::OK)
}

fn list(depot: &Depot, is_json: bool) -> Result<u8> {
    let pins = depot.pins();
    if is_json {
        text_out(&format!("{}\n", json!({"v": 1, "pins": pins})))?;
        return Ok(exit::OK);
    }
    let line = |pin: &Pin| format!("{}  {:>10}  {}\n", say::date(pin.time), say::size(pin.bytes), pin.name);
    let told: String = pins.iter().map(line).collect();
    text_out(&say::for_terminal(&told, std::io::IsTerminal::is_terminal(&std::io::stdout())))?;
    Ok(exit::OK)
}

fn code_of(read: Warmed) -> u8 {
    if read.failed > 0 { exit::PARTIAL } else { exit::OK }
}

fn depot(how: &How) -> Option<&Arc<Depot>> {
    how.far.depot.as_ref()
}

fn nowhere() -> Error {
    Error::new(Kind::Usage, "there is no directory for caches to keep it in").hint("--cache DIR")
}

fn wanted(operand: &OsStr) -> Wanted {
    let path = Path::new(operand);
    if remote::is_address(path).is_none() && path.symlink_metadata().is_ok() {
        return Wanted { source: absolute(path), path: Vec::new() };
    }
    let (source, path) = plan::source_and_path(operand);
    Wanted { source, path: path.into_iter().skip_while(|b| *b == b'/').collect() }
}

/// The source of the mount in which a path is, and the path there.
fn mount_of(path: &Path) -> Result<Option<Wanted>> {
    if remote::is_address(path).is_some() {
        return Ok(None);
    }
    let path = absolute(path);
    let live = Register::of_user().live()?;
    let found = live.iter().filter_map(|live| Some((live.source(), path.strip_prefix(live.mountpoint()).ok()?)));
    let innermost = found.min_by_key(|(_, below)| below.as_os_str().len());
    Ok(innermost.map(|(source, below)| Wanted { source, path: below.as_os_str().as_bytes().to_vec() }))
}

/// What is in a mount of an address is meant where it comes from.
fn at_its_address(wanted: Wanted) -> Result<Wanted> {
    let found = mount_of(&wanted.source)?.unwrap_or(wanted);
    if remote::is_address(&found.source).is_none() {
        let what = format!("{}: it is here already, and cannot be pinned", found.name());
        return Err(Error::new(Kind::Usage, what).hint("an address, or a path in a mount of one"));
    }
    Ok(found)
}

/// Reads all of it.
fn read(wanted: &Wanted, how: &How, progress: &Progress) -> Result<Warmed> {
    let (source, path) = (&wanted.source, &wanted.path);
    let opened = open::open_as(source, how);
    if let Ok(volume) = &opened {
        say::notes(source, &volume.notes);
    }
    match opened {
        Ok(volume) if !path.is_empty() || !is_whole_object(source, &volume, how)? => {
            let node = find_path(&*volume.tree, path)?;
            warm::tree(&*volume.tree, node, path, how.far.link.connections, progress)
        }
        Err(e) if !path.is_empty() || remote::is_address(source).is_none() => Err(e),
        // Whatever it is, and whether its password is known: its bytes are what is needed.
        _ => {
            let bytes = open::access(source, how)?.bytes;
            progress.total(bytes.len()?, 1);
            warm::whole(&*bytes, progress).map(|bytes| Warmed { files: 1, bytes, failed: 0 })
        }
    }
}

/// Whether the bytes of an object are all that there is to it.
fn is_whole_object(source: &Path, volume: &Volume, how: &How) -> Result<bool> {
    if remote::is_address(source).is_none() || volume.format == "remote folder" {
        return Ok(false);
    }
    Ok(volume.format != "st" || st::Container::open(open::access(source, how)?)?.bases()?.is_empty())
}
