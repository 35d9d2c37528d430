//! Images behind a program that mounts them: AppImages. The image begins where the table of sections of the program ends.

use crate::error::Result;
use crate::source::ReadAt;

/// What stands in the padding of the program's first bytes.
const MARK: &[u8] = b"AI\x02";

/// Where the image begins; `None` where no such program is in front of it.
pub fn end(bytes: &dyn ReadAt) -> Result<Option<u64>> {
    let mut head = [0; 64];
    let got = bytes.read_at(0, &mut head)?;
    if got < head.len() || !head.starts_with(b"\x7fELF") || &head[8..11] != MARK {
        return Ok(None);
    }
    let u16_at = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
    let (table, entry, count) = match head[4] {
        1 => (u32_at(0x20), u16_at(0x2e), u16_at(0x30)),
        _ => (u32_at(0x28) | u32_at(0x2c) << 32, u16_at(0x3a), u16_at(0x3c)),
    };
    Ok(table.checked_add(entry * count))
}
