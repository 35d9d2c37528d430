//! Stand-in until the measured plan lands.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    #[default]
    Other,
}

impl Class {
    pub fn of(_name: &[u8], _head: &[u8]) -> Self {
        Self::Other
    }
}

pub struct Preset {
    pub segment: u32,
    pub zstd: i32,
    pub index: i32,
    pub chunk_rows: bool,
}

impl Preset {
    pub fn of(level: u8) -> Self {
        let zstd = [1, 1, 3, 3, 9, 9, 9, 13, 18, 19][level.min(9) as usize];
        Self { segment: 256 << 10, zstd, index: 9, chunk_rows: true }
    }
}

/// Sort key: path components from the last to the first.
pub fn sort_key(path: &[u8]) -> Vec<u8> {
    let ext = path.rsplit(|b| *b == b'.').next().unwrap_or(b"");
    let mut key = ext.to_vec();
    for part in path.rsplit(|b| *b == b'/') {
        key.push(0);
        key.extend_from_slice(part);
    }
    key
}
