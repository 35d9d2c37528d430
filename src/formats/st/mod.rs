//! Stand-in.
use crate::error::{Error, Kind, Result};
use crate::formats::{Pack, Packed, Watch};
use crate::tree::{Filter, Tree};
use std::io::Write;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    Bytes(u32),
    Chunk,
}
pub struct Packer {
    pub level: u8,
    pub segment: Option<Segment>,
    pub threads: usize,
    pub filter: Filter,
}
impl Pack for Packer {
    fn pack(&self, _: &dyn Tree, _: &mut (dyn Write + Send), _: &dyn Watch) -> Result<Packed> {
        Err(Error::new(Kind::Unsupported, "this build cannot pack"))
    }
}
