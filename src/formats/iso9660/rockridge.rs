//! Rock Ridge: what Unix knows of a file, in the system use of its record and where that is continued.
//!
//! ```text
//!   │ PX mode links uid gid │ NM name │ TF times │ SL target │ CE block offset length │  ─►  │ … │ CE … │
//! ```

use super::record::{Record, long_date, number, short_date};
use crate::error::Result;
use crate::source::ReadAt;
use crate::tree::{Time, device};

/// How often an area may be continued; Linux follows as often.
const MAX_CONTINUED: usize = 32;

/// Bytes of a name or a target.
const MAX_TEXT: usize = 64 << 10;

/// What is said of a file.
#[derive(Default)]
pub struct Said {
    pub mode: Option<u32>,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    /// What tells hard links.
    pub serial: Option<u32>,
    pub rdev: u64,
    pub name: Option<Vec<u8>>,
    pub target: Option<Vec<u8>>,
    pub mtime: Option<Time>,
    pub atime: Option<Time>,
    pub ctime: Option<Time>,
    /// The block of a directory that lies elsewhere, because it would be too deep where it belongs.
    pub child: Option<u64>,
    /// Whether this is such a directory, where it lies.
    pub is_relocated: bool,
    pub zisofs: Option<Zisofs>,
    pub is_sparse: bool,
    /// Whether a part of all that is missing.
    pub is_torn: bool,
}

/// A file that is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zisofs {
    pub is_known: bool,
    /// In units of four bytes.
    pub header: u8,
    pub block_log: u8,
    pub size: u64,
}

/// How many bytes of each system use are of something else, if the root says that there are extensions.
pub fn skipped(root: &Record<'_>) -> Option<usize> {
    // Behind what CD-ROM XA has there.
    let found = [0, 14]
        .into_iter()
        .filter_map(|at| root.system_use.get(at..at + 7))
        .find(|entry| entry.starts_with(b"SP") && entry[4..6] == [0xbe, 0xef]);
    found.map(|entry| entry[6].into())
}

/// All that is said of a file, as far as it can be read.
pub fn read(image: &dyn ReadAt, block_size: u64, system_use: &[u8], skip: usize) -> Result<Said> {
    let (mut said, mut text) = (Said::default(), Text::default());
    let mut area = system_use.get(skip..).unwrap_or_default().to_vec();
    for _ in 0..MAX_CONTINUED {
        let mut next = None;
        for (name, entry) in entries(&area) {
            match &name {
                b"ST" => break,
                b"CE" => next = number(entry, 4).zip(number(entry, 12)).zip(number(entry, 20)),
                _ => said.take(name, entry, &mut text),
            }
        }
        let Some(((block, offset), len)) = next.filter(|(_, len)| *len > 0) else { return Ok(said) };
        // It lies in one block.
        area.resize(u64::from(len).min(block_size) as usize, 0);
        let got = image.read_at(u64::from(block) * block_size + u64::from(offset), &mut area)?;
        if got < area.len() {
            break;
        }
    }
    said.is_torn = true;
    Ok(said)
}

/// The entries of an area: what they are called, and all of their bytes.
fn entries(mut area: &[u8]) -> impl Iterator<Item = ([u8; 2], &[u8])> {
    std::iter::from_fn(move || {
        let (name, len) = ([*area.first()?, *area.get(1)?], usize::from(*area.get(2)?));
        let (entry, rest) = area.split_at_checked(len).filter(|_| len >= 4)?;
        area = rest;
        Some((name, entry))
    })
}

/// Whether the last part of a name or a target is to be continued.
#[derive(Default)]
struct Text {
    name_goes_on: bool,
    component_goes_on: bool,
}

impl Said {
    fn take(&mut self, name: [u8; 2], entry: &[u8], text: &mut Text) {
        match &name {
            b"PX" => {
                let field = |at| number(entry, at).unwrap_or_default();
                (self.mode, self.links, self.uid, self.gid) = (Some(field(4)), field(12), field(20), field(28));
                self.serial = number(entry, 36);
            }
            b"PN" => {
                let (high, low) = (number(entry, 4).unwrap_or_default(), number(entry, 12).unwrap_or_default());
                // Linux's own number stands in the lower half alone.
                self.rdev = match high == 0 && low > 0xff {
                    true => device::join(low >> 8 & 0xfff, low & 0xff | low >> 12 & 0xf_ff00),
                    false => device::join(high, low),
                };
            }
            b"NM" => self.name(entry, text),
            b"SL" => self.target(entry, text),
            b"TF" => self.times(entry),
            b"CL" => self.child = number(entry, 4).map(u64::from),
            b"RE" => self.is_relocated = true,
            b"SF" => self.is_sparse = true,
            b"ZF" => {
                self.zisofs = entry.get(4..8).zip(number(entry, 8)).map(|(head, size)| Zisofs {
                    is_known: head.starts_with(b"pz"),
                    header: head[2],
                    block_log: head[3],
                    size: size.into(),
                });
            }
            _ => {}
        }
    }

    fn name(&mut self, entry: &[u8], text: &mut Text) {
        let Some((flags, part)) = entry.get(4..).and_then(<[u8]>::split_first) else { return };
        // The names of the directory itself, and of the one above.
        if flags & 6 != 0 {
            return;
        }
        let name = self.name.get_or_insert_default();
        if !text.name_goes_on {
            name.clear();
        }
        if name.len() + part.len() <= MAX_TEXT {
            name.extend_from_slice(part);
        }
        text.name_goes_on = flags & 1 != 0;
    }

    fn target(&mut self, entry: &[u8], text: &mut Text) {
        let target = self.target.get_or_insert_default();
        let mut rest = entry.get(5..).unwrap_or_default();
        while let [flags, len, behind @ ..] = rest {
            let Some((part, behind)) = behind.split_at_checked((*len).into()) else { return };
            rest = behind;
            if !target.is_empty() && target != b"/" && !text.component_goes_on {
                target.push(b'/');
            }
            match flags & !1 {
                2 => target.push(b'.'),
                4 => target.extend_from_slice(b".."),
                8 => *target = b"/".into(),
                _ if target.len() + part.len() <= MAX_TEXT => target.extend_from_slice(part),
                _ => {}
            }
            text.component_goes_on = flags & 1 != 0;
        }
    }

    fn times(&mut self, entry: &[u8]) {
        let Some(flags) = entry.get(4) else { return };
        let is_long = flags & 0x80 != 0;
        let dates = entry[5..].chunks_exact(if is_long { 17 } else { 7 });
        let date = |bytes| if is_long { long_date(bytes) } else { short_date(bytes) };
        let present = (0..7).filter(|bit| flags & 1 << bit != 0);
        for (bit, bytes) in present.zip(dates) {
            match bit {
                1 => self.mtime = Some(date(bytes)),
                2 => self.atime = Some(date(bytes)),
                3 => self.ctime = Some(date(bytes)),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    #[test]
    fn names_and_targets_are_put_together() {
        let area = b"NM\x08\x01\x01abcNM\x07\x01\x00deSL\x11\x01\x01\x08\x00\x00\x03usr\x01\x03lonSL\x0a\x01\x00\x00\x01g\x04\x00ST\x04\x01NM\x06\x01\x00x";
        let said = read(&Memory::new(Vec::new()), 2048, area, 0).unwrap();
        assert_eq!(said.name.as_deref(), Some(&b"abcde"[..]));
        assert_eq!(said.target.as_deref(), Some(&b"/usr/long/.."[..]));
    }

    #[test]
    fn an_area_that_continues_itself_ends() {
        let mut image = vec![0; 4096];
        let mut entry = b"CE\x1c\x01".to_vec();
        for number in [1u32, 0, 28] {
            entry.extend(number.to_le_bytes().into_iter().chain(number.to_be_bytes()));
        }
        image[2048..2076].copy_from_slice(&entry);
        assert_eq!(read(&Memory::new(image), 2048, &entry, 0).unwrap().name, None);
    }
}
