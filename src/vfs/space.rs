//! What `df` is told.

use crate::tree::Totals;

/// The unit of the figures, in bytes.
pub const BLOCK: u64 = 4096;

/// Space said to be free, though nothing can be written. With 0, installers and game launchers refuse to start from the
/// mount. 32-bit programs overflow at 2 TiB, and some keep only the low 32 bits of the figure in bytes: 61 GiB leaves
/// those with 1 GiB, where a power of two would leave them with nothing.
pub const FREE: u64 = 61 << 30;

/// Inodes said to be free, for the same reason.
pub const FREE_NODES: u64 = 1 << 20;

/// The figures of statfs(2), in units of [`BLOCK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub blocks: u64,
    pub free: u64,
    pub nodes: u64,
    pub free_nodes: u64,
    /// Longest name, in bytes.
    pub name_max: u32,
}

impl From<Totals> for Space {
    fn from(totals: Totals) -> Self {
        Self::with_free(totals, FREE)
    }
}

impl Space {
    /// So many bytes can be written.
    pub fn with_free(totals: Totals, free: u64) -> Self {
        let free = free / BLOCK;
        Self {
            blocks: totals.bytes.div_ceil(BLOCK).saturating_add(free),
            free,
            nodes: totals.nodes.saturating_add(FREE_NODES),
            free_nodes: FREE_NODES,
            name_max: 255,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_positive_for_programs_of_32_bits_too() {
        let space = Space::from(Totals::default());
        assert!(space.free > 0 && space.free_nodes > 0 && space.blocks >= space.free);
        assert!((space.free * BLOCK) as i32 > 0 && space.free * BLOCK < 2 << 40);
    }
}
