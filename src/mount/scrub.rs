//! When a container was looked at for damage, from one mount to the next.
//!
//! `$XDG_STATE_HOME/stmount/scrubbed/UID` is written when a look ends: its time of change counts.

use crate::formats::Heals;
use crate::key::sign::hex;
use crate::open::trust::state_dir;
use crate::vfs::Schedule;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(60);

/// The schedule of a container that is mounted.
pub fn schedule(heals: &dyn Heals, every: Duration, rate: u64) -> Schedule {
    let mark = state_dir().map(|dir| dir.join("scrubbed").join(hex(&heals.identity())));
    let last = mark.as_ref().and_then(|mark| mark.metadata().and_then(|meta| meta.modified()).ok());
    Schedule { first: FIRST, every, rate, last, done: Box::new(move || note(mark.as_ref())) }
}

/// What is not noted is done again after the next mount.
fn note(mark: Option<&PathBuf>) {
    let Some(mark) = mark else { return };
    let made = mark.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(mark, b""));
    if let Err(e) = made {
        log::info!("{}: {e}", mark.display());
    }
}
