//! What a container is made of, and what reading it will cost.

use super::rows::{Block, ChunkRow, ExtentRow, Metas, Names, Nodes, Plain, Rows, SegmentRow};
use super::tree::Container;
use crate::codec::seal::name_of;
use crate::error::Result;
use std::time::{Duration, Instant};

/// Figures of a container, for people and for scripts.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Info {
    /// Bytes of the container.
    pub stored: u64,
    /// Inodes.
    pub nodes: u64,
    /// Sum of the sizes of all files.
    pub bytes: u64,
    /// Bytes left after equal chunks were found.
    pub unique: u64,
    pub segments: u64,
    /// Raw bytes of the largest segment: the most that one random read decodes.
    pub largest_segment: u64,
    /// Bytes of the index: names and inodes, and everything else.
    pub index_tree: u64,
    pub index_data: u64,
    pub tables: u64,
    /// What it is sealed with, the innermost first. Nothing of a container in clear.
    pub ciphers: Vec<&'static str>,
    /// Time to read and decode one segment, measured on some of them.
    pub random_read: Duration,
    /// Decoded bytes a second on one core, from the same segments.
    pub decode_rate: u64,
}

/// Segments that are decoded to predict what reading costs.
const SAMPLES: usize = 8;

impl Container {
    /// Collects the figures; decodes a few segments to see how long it takes.
    pub fn info(&self) -> Result<Info> {
        let totals = crate::tree::Tree::totals(self)?;
        let mut info = Info { stored: totals.stored, nodes: totals.nodes, bytes: totals.bytes, ..Info::default() };
        let seal = self.medium().sealing.seal();
        info.ciphers = seal.map_or(Vec::new(), |seal| seal.keys().ciphers().iter().map(|id| name_of(*id)).collect());
        info.tables = self.index().tables().len() as u64;
        for fence in self.index().tables().iter().flat_map(|table| &table.fences) {
            match fence.family {
                Names::FAMILY | Nodes::FAMILY | ExtentRow::FAMILY => info.index_tree += fence.len,
                SegmentRow::FAMILY | ChunkRow::FAMILY | Metas::FAMILY => info.index_data += fence.len,
                _ => {}
            }
        }
        let mut rows = Vec::new();
        let mut segments = self.index().all::<Rows<SegmentRow>>()?;
        while let Some(at) = segments.next()? {
            let row = *at.block.get(at.row);
            info.segments += 1;
            info.unique += row.raw_len;
            info.largest_segment = info.largest_segment.max(row.raw_len);
            rows.push(row);
        }
        self.measure(&rows, &mut info);
        Ok(info)
    }

    fn measure(&self, rows: &[SegmentRow], info: &mut Info) {
        let step = (rows.len() / SAMPLES).max(1);
        let (mut spent, mut bytes, mut count) = (Duration::ZERO, 0, 0);
        for row in rows.iter().step_by(step).take(SAMPLES) {
            let start = Instant::now();
            if self.tape().decode(row, 0).is_ok() {
                spent += start.elapsed();
                bytes += row.raw_len;
                count += 1;
            }
        }
        if count > 0 {
            info.random_read = spent / count;
            info.decode_rate = (bytes as f64 / spent.as_secs_f64().max(1e-9)) as u64;
        }
    }
}
