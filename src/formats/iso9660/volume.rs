//! The volume descriptors, from sector 16 on: which trees of directories there are, and which of them is shown.
//!
//! ```text
//!   sector 16 │ "CD001" 1 primary │ 0 boot record │ 2 supplementary: Joliet │ 255 end │ "BEA01" "NSR02" "TEA01": UDF
//! ```

use super::broken;
use super::record::Record;
use super::rockridge;
use crate::error::{Error, Kind, Result};
use crate::source::ReadAt;

/// A sector, and where the descriptors begin.
pub const SECTOR: u64 = 2048;
pub const FIRST: u64 = 16 * SECTOR;

/// Descriptors that are looked at.
const MAX_DESCRIPTORS: u64 = 100;

/// How names are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// With so many bytes of each system use to be left out.
    RockRidge(usize),
    Joliet,
    Plain,
}

/// The directories that are shown, and what else is told of the volume.
pub struct Volume {
    pub names: Names,
    pub block_size: u64,
    pub root: Root,
    pub label: String,
    pub has_boot: bool,
    pub has_udf: bool,
    pub has_joliet: bool,
}

/// Where the root directory is.
#[derive(Clone, Copy)]
pub struct Root {
    pub block: u64,
    pub size: u64,
}

/// What a descriptor tells of a tree.
struct Found {
    root: Root,
    block_size: u64,
    label: Vec<u8>,
}

impl Volume {
    pub fn read(image: &dyn ReadAt) -> Result<Self> {
        let (mut primary, mut joliet, mut has_boot, mut has_udf) = (None, None, false, false);
        for number in 0..MAX_DESCRIPTORS {
            let mut sector = [0; SECTOR as usize];
            if image.read_at(FIRST + number * SECTOR, &mut sector)? < sector.len() {
                break;
            }
            match (&sector[1..6], sector[0]) {
                (b"CD001", 0) => has_boot |= sector[7..].starts_with(b"EL TORITO"),
                (b"CD001", 1) if primary.is_none() => primary = Some(found(&sector)?),
                (b"CD001", 2) if joliet.is_none() && is_joliet(&sector) => joliet = Some(found(&sector)?),
                (b"CD001", _) => {}
                (b"NSR02" | b"NSR03", _) => has_udf = true,
                (b"BEA01" | b"TEA01" | b"BOOT2", _) => {}
                _ if &sector[9..14] == b"CDROM" => {
                    return Err(Error::new(
                        Kind::Unsupported,
                        "it is in the High Sierra format, the one before ISO 9660",
                    ));
                }
                _ => break,
            }
        }
        let Some(primary) = primary else {
            return Err(match has_udf {
                true => Error::new(Kind::Unsupported, "its file system is UDF, which is not read")
                    .hint("mount -o loop shows it, where the system can do it"),
                false => broken("there is no primary volume descriptor"),
            });
        };
        let has_joliet = joliet.is_some();
        let (names, shown) = match (rock_ridge(image, &primary)?, &joliet) {
            (Some(skip), _) => (Names::RockRidge(skip), &primary),
            (None, Some(joliet)) => (Names::Joliet, joliet),
            (None, None) => (Names::Plain, &primary),
        };
        let label = String::from_utf8_lossy(primary.label.trim_ascii_end()).into_owned();
        let (root, block_size) = (shown.root, shown.block_size);
        Ok(Self { names, block_size, root, label, has_boot, has_udf, has_joliet })
    }
}

fn found(sector: &[u8]) -> Result<Found> {
    let block_size = u64::from(u16::from_le_bytes([sector[128], sector[129]]));
    if !matches!(block_size, 512 | 1024 | 2048) {
        return Err(broken(format!("its blocks are said to have {block_size} bytes")));
    }
    let (root, _) = Record::read(&sector[156..190]).ok_or_else(|| broken("the record of its root is damaged"))?;
    let root = Root { block: root.block, size: root.size };
    Ok(Found { root, block_size, label: sector[40..72].to_vec() })
}

/// By its escape sequence: one of three levels of UCS-2.
fn is_joliet(sector: &[u8]) -> bool {
    matches!(&sector[88..91], b"%/@" | b"%/C" | b"%/E")
}

/// Whether the root says that there are extensions, and its entries have a mode.
fn rock_ridge(image: &dyn ReadAt, found: &Found) -> Result<Option<usize>> {
    let mut sector = vec![0; found.block_size as usize];
    let got = image.read_at(found.root.block * found.block_size, &mut sector)?;
    let Some((root, _)) = Record::read(&sector[..got]) else { return Ok(None) };
    let Some(skip) = rockridge::skipped(&root) else { return Ok(None) };
    let said = rockridge::read(image, found.block_size, root.system_use, skip);
    Ok(said.ok().filter(|said| said.mode.is_some()).map(|_| skip))
}

/// Whether there is a descriptor, of ISO 9660 or of UDF alone, in the first bytes of a file.
pub fn is_one(head: &[u8]) -> bool {
    let sectors = head.get(FIRST as usize..).unwrap_or_default().chunks(SECTOR as usize);
    let is_known = |sector: &[u8]| {
        let high_sierra = sector.get(9..14) == Some(b"CDROM");
        high_sierra || sector.get(1..6).is_some_and(|name| matches!(name, b"CD001" | b"NSR02" | b"NSR03"))
    };
    sectors.take(4).any(is_known)
}
