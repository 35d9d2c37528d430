//! Stand-in.
use super::options::Options;
use crate::error::{Error, Kind, Result};
use crate::tree::Tree;
use std::path::Path;
use std::sync::Arc;
pub struct Mounted;
#[derive(Clone)]
pub struct Unmounter;
impl Mounted {
    pub fn wait(self) -> Result<()> {
        Ok(())
    }
    pub fn unmount(self) -> Result<()> {
        Ok(())
    }
    pub fn unmounter(&self) -> Unmounter {
        Unmounter
    }
}
impl Unmounter {
    pub fn unmount(&self) -> Result<()> {
        Ok(())
    }
}
pub fn mount(_: Arc<dyn Tree>, _: &Path, _: &Options) -> Result<Mounted> {
    Err(Error::new(Kind::MountFailed, "this build cannot mount"))
}
