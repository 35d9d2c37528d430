//! Headers of RAR 1.3 and 1.4, of DOS: nothing in them has a checksum.

use super::Scan;
use super::bytes::{Bytes, Look, broken};
use super::cipher::{Lock, Sealed};
use super::headers::{Codec, Ending, File, Found, Host, Main, Member, Name, Piece, Pieces, Sum};
use crate::error::Result;
use crate::formats::of_dos;

pub const SIGNATURE: &[u8; 4] = b"RE~^";

/// What every file header has, in front of the name.
const FILE: usize = 21;

/// What stands at the front of a volume.
pub struct Begun {
    pub main: Main,
    next: u64,
}

/// `at` is where the signature ends.
pub fn begin(look: &mut Look<'_>, at: u64) -> Result<Begun> {
    let mut bytes = Bytes(look.bytes(at, 3)?);
    let (len, flags) = (bytes.u16()?, bytes.byte()?);
    let main = Main { is_volume: flags & 1 != 0, is_solid: flags & 8 != 0, ..Main::default() };
    if len < 7 {
        return Err(broken("its first header has no length that can be"));
    }
    Ok(Begun { main, next: at - SIGNATURE.len() as u64 + u64::from(len) })
}

/// Takes all files of a volume into the list.
pub fn walk(look: &mut Look<'_>, begun: &Begun, volume: u32, scan: &mut Scan<'_>) -> Result<Ending> {
    let mut at = begun.next;
    while at < look.len() {
        let front = look.bytes(at, FILE)?;
        if front.len() < FILE {
            return Ok(Ending::Cut);
        }
        let len = usize::from(u16::from_le_bytes([front[10], front[11]]));
        let header = look.bytes(at, len.max(FILE))?.to_vec();
        if header.len() < len {
            return Ok(Ending::Cut);
        }
        let is_first = scan.list.members.is_empty();
        let found = file(&header, at + len as u64, volume, begun.main.is_solid && !is_first)?;
        at = at.saturating_add(len as u64).saturating_add(found.member.packed);
        scan.list.add(found, scan.access.reading.max_entries)?;
    }
    Ok(if at > look.len() { Ending::Cut } else { Ending::Silent })
}

fn file(header: &[u8], at: u64, volume: u32, is_solid: bool) -> Result<Found> {
    let mut bytes = Bytes(header);
    let (packed, size, sum, len, time) = (bytes.u32()?, bytes.u32()?, bytes.u16()?, bytes.u16()?, bytes.u32()?);
    let (attributes, flags, _version, name_len, method) =
        (bytes.byte()?, bytes.byte()?, bytes.byte()?, bytes.byte()?, bytes.byte()?);
    if usize::from(len) < FILE + usize::from(name_len) || method > 5 {
        return Err(broken("a header has no length that can be"));
    }
    let file = File {
        name: Name { bytes: bytes.take(name_len.into())?.to_vec(), is_text: false },
        host: Host::Windows,
        attributes: attributes.into(),
        is_dir: attributes & 0x10 != 0,
        modified: Some(of_dos((time >> 16) as u16, time as u16)),
        ..File::default()
    };
    let member = Member {
        pieces: Pieces::One(Piece { volume, at, len: packed.into() }),
        packed: packed.into(),
        size: size.into(),
        codec: if method == 0 { Codec::Stored } else { Codec::V15 },
        dictionary: 64 << 10,
        is_solid,
        sum: Sum::Old(sum),
        sealed: (flags & 4 != 0).then(|| Box::new(Sealed::old(Lock::Rar13))),
        is_cut: false,
        run: 0,
        at: 0,
    };
    Ok(Found { file, member, goes_on: flags & 2 != 0, began_before: flags & 1 != 0 })
}
