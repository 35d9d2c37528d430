//! `sync ADDRESS FILE`.

use super::args::{self, Common};
use super::pack::{Told, finish};
use super::progress::Progress;
use super::{daemon, plan, say, unmount};
use crate::error::{Error, Kind, Result};
use crate::jobs::fetch::{Fetch, Fetched};
use crate::mount::session::absolute;
use crate::remote;
use serde_json::json;
use std::path::Path;

/// What is meant by the verb: of an address, that a file becomes the same; else that what was written to mounts is stored.
pub fn sync(given: &args::Sync, common: &Common) -> Result<u8> {
    let Some(address) = given.named.first().and_then(|first| remote::is_address(first)) else {
        if given.overwrite || given.whole || given.checksum {
            let what = "--overwrite, --whole and --checksum are for an address and a file";
            return Err(Error::new(Kind::Usage, what).hint("stmount sync ADDRESS FILE"));
        }
        return unmount::sync(given);
    };
    match &given.named[1..] {
        [local] => fetch(address, local, given, common),
        _ => Err(Error::new(Kind::Usage, format!("{}: which file is to become the same?", remote::shown(address)))
            .hint("stmount sync ADDRESS FILE")),
    }
}

fn fetch(address: &str, local: &Path, given: &args::Sync, common: &Common) -> Result<u8> {
    let progress = Progress::new("sync", common);
    let how = plan::how(&given.opening, progress.clone())?;
    let (overwrite, whole, checksum) = (given.overwrite, given.whole, given.checksum);
    let has_key = given.opening.reading.passwords.opens();
    let place = absolute(local);
    let wish = Fetch { address, local: &place, how: &how, has_key, overwrite, whole, checksum };
    let done = progress.guard(|| (), || daemon::locking(&place, || wish.run(&*progress)));
    finish(done.map(|fetched| words(&fetched)), &progress)
}

/// `12.3 MiB of 4.1 GiB fetched`
fn words(done: &Fetched) -> Told {
    let (fetched, len) = (say::size(done.fetched), say::size(done.len));
    let words = match done {
        Fetched { was_there: true, .. } => format!("{len}: nothing has changed"),
        Fetched { resumed: 0, .. } => format!("{fetched} of {len} fetched"),
        Fetched { resumed, .. } => format!("{fetched} of {len} fetched, {} of it before", say::size(*resumed)),
    };
    let json =
        json!({"fetched": done.fetched, "bytes": done.len, "resumed": done.resumed, "unchanged": done.was_there});
    (words, json, 0)
}
