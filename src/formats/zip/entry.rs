//! What an entry of the list means: what kind of thing it is, when it was changed, whose it is, how it is stored.

use super::aes::Strength;
use super::extra::Extras;
use super::layout::{Central, IN_ZIP64, IN_ZIP64_SHORT, dos, flag, host};
use super::records::Record;
use crate::formats::of_dos;
use crate::tree::{Attr, Item, Kind, Time};
use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

/// What is needed to read the contents of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub header_at: u64,
    pub packed: u64,
    pub size: u64,
    pub crc: u32,
    /// Of DOS: a byte of it is part of a check.
    pub time: u16,
    pub method: u16,
    pub flags: u16,
    pub name_len: u16,
    pub cipher: Cipher,
    /// Whether the CRC says something.
    pub has_crc: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    None,
    ZipCrypto,
    Aes(Strength),
    /// One that is not known here.
    Other,
}

impl Member {
    pub fn new(central: &Central, extras: &Extras<'_>, exact: Wide) -> Self {
        let (cipher, method) = cipher(central, extras);
        let Wide { header_at, packed, size, .. } = exact;
        let (crc, time, flags) = (central.crc.get(), central.time.get(), central.flags.get());
        // Version 2 of AES has no CRC: its own check is enough.
        let is_sealed = matches!(cipher, Cipher::Aes(_)) && extras.aes.is_some_and(|aes| aes.version.get() == 2);
        // Some programs leave the CRC out. Contents that have this one are rare enough not to be checked.
        let is_told = crc != 0 || size == 0;
        let (name_len, has_crc) = (central.name_len.get(), !is_sealed && is_told && size != UNKNOWN);
        Self { header_at, packed, size, crc, time, method, flags, name_len, cipher, has_crc }
    }

    /// Whether it is only stored, and longer by some 4 GiB than what is: its upper half was made up.
    pub fn is_too_long_by_4_gib(&self) -> bool {
        let is_plain = self.method == 0 && self.cipher == Cipher::None && self.size != UNKNOWN;
        is_plain && self.size > self.packed && self.size as u32 == self.packed as u32
    }

    /// Whether it says that there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.size == 0 && self.crc == 0
    }

    pub fn is_encrypted(&self) -> bool {
        self.cipher != Cipher::None
    }
}

/// How an entry is encrypted, and how it is compressed below.
fn cipher(central: &Central, extras: &Extras<'_>) -> (Cipher, u16) {
    let (flags, method) = (central.flags.get(), central.method.get());
    if flags & flag::ENCRYPTED == 0 {
        return (Cipher::None, method);
    }
    if flags & flag::STRONG != 0 {
        return (Cipher::Other, method);
    }
    if method != AES {
        return (Cipher::ZipCrypto, method);
    }
    let Some(aes) = extras.aes else { return (Cipher::Other, method) };
    match Strength::new(aes.strength) {
        Some(strength) => (Cipher::Aes(strength), aes.method.get()),
        None => (Cipher::Other, method),
    }
}

/// The size of an entry when nothing says it.
pub const UNKNOWN: u64 = u64::MAX;

/// The method that says that it is encrypted by WinZip.
const AES: u16 = 99;

/// Numbers of an entry that may stand in its field of zip64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wide {
    pub size: u64,
    pub packed: u64,
    /// Where the header is, on its disk.
    pub header_at: u64,
    pub disk: u32,
    /// A number says that it is in the field, and there it is not.
    pub is_missing: bool,
}

impl Wide {
    pub fn of(central: &Central, extras: &Extras<'_>) -> Self {
        let (mut rest, mut is_missing) = (extras.zip64.unwrap_or_default(), false);
        let mut wide = |narrow: u32| {
            if narrow != IN_ZIP64 {
                return u64::from(narrow);
            }
            let number = U64::ref_from_prefix(rest).ok();
            is_missing |= number.is_none();
            number.map_or(narrow.into(), |(number, behind)| {
                rest = behind;
                number.get()
            })
        };
        let (size, packed) = (wide(central.size.get()), wide(central.packed.get()));
        let header_at = wide(central.header_at.get());
        let disk = match central.disk.get() {
            IN_ZIP64_SHORT => U32::ref_from_prefix(rest).map_or(0, |(disk, _)| disk.get()),
            disk => disk.into(),
        };
        Self { size, packed, header_at, disk, is_missing }
    }
}

/// Who owns what has no owner in the archive.
#[derive(Clone, Copy)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

/// An entry as it is shown; `path` is its decoded path.
pub fn item(record: &Record<'_>, extras: &Extras<'_>, member: &Member, number: u64, path: &[u8], ids: Ids) -> Item {
    let (kind, mode) = kind_and_mode(record.central, extras, path, member.size);
    let mut attr = Attr::new(kind, mode, extras.time.unwrap_or_else(|| dos_time(record.central)));
    // Some programs write -1 for nobody.
    let known = |id: u32, default: u32| if id == u32::MAX { default } else { id };
    let (uid, gid) = extras.owner.unwrap_or((ids.uid, ids.gid));
    (attr.uid, attr.gid) = (known(uid, ids.uid), known(gid, ids.gid));
    if matches!(kind, Kind::File | Kind::Symlink) {
        attr.size = member.size;
    }
    if kind.is_device() {
        attr.rdev = extras.device.unwrap_or_default();
    }
    let mut xattrs = Vec::new();
    if let Some(own) = &extras.own {
        // Who changed the time and left the field alone meant the time.
        let known = extras.time.map_or(attr.mtime.secs, |time| time.secs);
        attr.mtime =
            own.mtime.filter(|time| time.secs == known || i32::try_from(time.secs).is_err()).unwrap_or(attr.mtime);
        (attr.atime, attr.ctime) = (own.atime.unwrap_or(attr.mtime), own.ctime.unwrap_or(attr.mtime));
        attr.rdev = own.device.filter(|_| kind.is_device()).unwrap_or(attr.rdev);
        xattrs = own.xattrs.clone();
    }
    let target = extras.target.filter(|_| kind == Kind::Symlink && member.size == 0).map(<[u8]>::to_vec);
    Item { target, xattrs, ..Item::new(attr, number) }
}

pub fn dos_time(central: &Central) -> Time {
    of_dos(central.date.get(), central.time.get())
}

/// What kind it is and its permissions: as Unix has them where it was made there, else from the attributes of DOS.
fn kind_and_mode(central: &Central, extras: &Extras<'_>, path: &[u8], size: u64) -> (Kind, u32) {
    let has_slash = path.ends_with(b"/");
    let external = central.external.get();
    let unix = unix_mode(central, extras);
    let is_dos_dir = external & dos::DIRECTORY != 0 && size == 0;
    let kind = match Kind::from_mode(unix) {
        _ if has_slash => Kind::Directory,
        // What came out of a pipe has its mode, and is a file.
        Some(Kind::Fifo | Kind::Socket) if size > 0 => Kind::File,
        Some(kind) => kind,
        None if is_dos_dir => Kind::Directory,
        None => Kind::File,
    };
    let writable = if external & dos::READ_ONLY == 0 { 0o200 } else { 0 };
    let mode = match unix & 0o7777 {
        0 if unix == 0 => (if kind == Kind::Directory { 0o555 } else { 0o444 }) | writable,
        // What is not said to be a directory has no right to be entered.
        mode if kind == Kind::Directory && Kind::from_mode(unix) != Some(kind) => mode | (mode & 0o444) >> 2,
        mode => mode,
    };
    (kind, mode)
}

/// `st_mode`, or 0.
fn unix_mode(central: &Central, extras: &Extras<'_>) -> u32 {
    let upper = central.external.get() >> 16;
    let is_unix = matches!(central.made_by, host::UNIX | host::MACOS);
    // Programs on Windows fill the upper half with what their library makes up; but nobody makes up a link.
    let is_link = Kind::from_mode(upper) == Some(Kind::Symlink);
    match upper {
        0 => extras.mode.map_or(0, u32::from),
        upper if is_unix || is_link => upper,
        _ => 0,
    }
}

/// Whether a path may have backslashes where it means slashes.
pub fn is_of_dos(made_by: u8) -> bool {
    matches!(made_by, host::DOS | host::HPFS | host::NTFS | host::VFAT)
}
