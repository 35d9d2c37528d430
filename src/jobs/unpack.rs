//! Stand-in.
use crate::error::{Error, Kind, Result};
use crate::formats::Watch;
use crate::tree::{Filter, Tree};
use std::path::Path;
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub overwrite: bool,
    pub skip_existing: bool,
    pub numeric_owner: bool,
    pub same_owner: bool,
    pub filter: Filter,
}
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub entries: u64,
    pub bytes: u64,
    pub skipped: u64,
}
pub fn unpack(_: &dyn Tree, _: &Path, _: &Options, _: &dyn Watch) -> Result<Report> {
    Err(Error::new(Kind::Unsupported, "this build cannot unpack"))
}
