//! Extra fields: what an entry tells beyond its fixed structure. Each is taken where it is whole, and left alone where not.

use super::layout::{AesField, AsiUnix, ExtraHead, NtfsTimes, OldUnix, PkwareUnix, UnicodeHead, extra};
use super::own::{Own, Root};
use crate::formats::of_windows;
use crate::tree::{Time, device};
use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

/// What is in the fields that are known.
#[derive(Default)]
pub struct Extras<'a> {
    pub zip64: Option<&'a [u8]>,
    /// When the contents were changed last, from the most exact of the fields that tell it.
    pub time: Option<Time>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    pub path: Option<Text<'a>>,
    pub comment: Option<Text<'a>>,
    pub aes: Option<AesField>,
    /// Kind and permissions.
    pub mode: Option<u16>,
    /// The target of a link, or two numbers of a device.
    pub target: Option<&'a [u8]>,
    pub device: Option<u64>,
    pub own: Option<Box<Own>>,
    pub root: Option<Box<Root>>,
    /// A field is longer than what holds all of them.
    pub is_torn: bool,
    exactness: u8,
}

/// A text in UTF-8 that stands for other bytes.
pub struct Text<'a> {
    pub utf8: &'a [u8],
    crc: u32,
}

impl<'a> Text<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let (head, utf8) = UnicodeHead::ref_from_prefix(body).ok()?;
        (head.version == 1).then_some(Self { utf8, crc: head.crc.get() })
    }

    /// The text, if it stands for these bytes: a program that knows nothing of it may have changed them.
    pub fn instead_of(&self, raw: &[u8]) -> Option<&'a str> {
        let text = std::str::from_utf8(self.utf8).ok()?;
        (crc32fast::hash(raw) == self.crc && !text.is_empty()).then_some(text)
    }
}

impl<'a> Extras<'a> {
    /// `dos` is the time in the fixed structure.
    pub fn parse(mut bytes: &'a [u8], dos: Time) -> Self {
        let mut found = Self::default();
        // Less than a head is padding.
        while let Ok((head, rest)) = ExtraHead::ref_from_prefix(bytes) {
            let Some((body, rest)) = rest.split_at_checked(head.len.get().into()) else {
                found.is_torn = true;
                break;
            };
            found.take(head.id.get(), body, dos);
            bytes = rest;
        }
        found
    }

    fn take(&mut self, id: u16, body: &'a [u8], dos: Time) {
        match id {
            extra::ZIP64 => self.zip64 = Some(body),
            extra::NTFS => self.ntfs(body),
            extra::TIMES => self.times(body, dos),
            extra::OLD_UNIX => self.old_unix(body, dos),
            extra::PKWARE_UNIX => self.pkware_unix(body, dos),
            extra::ASI_UNIX => self.asi_unix(body),
            extra::OWNER => self.owner = owner(body).or(self.owner),
            extra::UNICODE_PATH => self.path = Text::read(body),
            extra::UNICODE_COMMENT => self.comment = Text::read(body),
            extra::AES => self.aes = AesField::read_from_prefix(body).ok().map(|(field, _)| field),
            extra::OWN => self.own = Own::decode(body).map(Box::new),
            extra::ROOT => self.root = Root::decode(body).map(Box::new),
            _ => {}
        }
    }

    fn changed(&mut self, time: Time, exactness: u8) {
        if exactness > self.exactness {
            (self.time, self.exactness) = (Some(time), exactness);
        }
    }

    fn ntfs(&mut self, body: &[u8]) {
        let Ok((times, _)) = NtfsTimes::ref_from_prefix(body) else { return };
        let changed = times.changed.get();
        if times.tag.get() == 1 && times.len.get() >= 24 && changed > 0 {
            self.changed(of_windows(changed), 4);
        }
    }

    fn times(&mut self, body: &[u8], dos: Time) {
        if let Some((flags, rest)) = body.split_first()
            && flags & 1 != 0
            && let Ok((seconds, _)) = U32::read_from_prefix(rest)
        {
            self.changed(of_unix(seconds.get(), dos), 3);
        }
    }

    fn old_unix(&mut self, body: &[u8], dos: Time) {
        if let Ok((times, _)) = OldUnix::ref_from_prefix(body) {
            self.changed(of_unix(times.changed.get(), dos), 2);
        }
    }

    fn pkware_unix(&mut self, body: &'a [u8], dos: Time) {
        let Ok((field, rest)) = PkwareUnix::ref_from_prefix(body) else { return };
        self.changed(of_unix(field.changed.get(), dos), 1);
        self.owner = self.owner.or(Some((field.uid.get().into(), field.gid.get().into())));
        self.target = Some(rest).filter(|rest| !rest.is_empty());
        if let Ok((numbers, _)) = <[U32; 2]>::ref_from_prefix(rest) {
            self.device = Some(device::join(numbers[0].get(), numbers[1].get()));
        }
    }

    fn asi_unix(&mut self, body: &'a [u8]) {
        let Ok((field, rest)) = AsiUnix::ref_from_prefix(body) else { return };
        if crc32fast::hash(&body[size_of::<U32>()..]) != field.crc.get() {
            return;
        }
        self.mode = Some(field.mode.get());
        self.owner = self.owner.or(Some((field.uid.get().into(), field.gid.get().into())));
        self.target = Some(rest).filter(|rest| !rest.is_empty());
        let number = field.len_or_device.get();
        self.device = Some(device::join(number >> 8, number & 0xff));
    }
}

/// Info-ZIP's owner: version 1, then two numbers, each with its length in front.
fn owner(body: &[u8]) -> Option<(u32, u32)> {
    let (version, rest) = body.split_first()?;
    let (uid, rest) = sized_number(rest)?;
    let (gid, _) = sized_number(rest)?;
    (*version == 1).then_some((uid, gid))
}

fn sized_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (len, rest) = bytes.split_first()?;
    let (number, rest) = rest.split_at_checked(usize::from(*len))?;
    let number = number.iter().rev().try_fold(0u32, |n, byte| n.checked_mul(256)?.checked_add(u32::from(*byte)))?;
    Some((number, rest))
}

/// Seconds of 1970 in 32 bits. Whether the highest is a sign is not agreed upon: the time of DOS tells which century it is.
fn of_unix(seconds: u32, dos: Time) -> Time {
    let is_late = dos.secs > i64::from(i32::MAX);
    let secs = if is_late { i64::from(seconds) } else { i64::from(seconds.cast_signed()) };
    Time { secs, nanos: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::of_dos;

    fn field(id: u16, body: &[u8]) -> Vec<u8> {
        [&id.to_le_bytes()[..], &(body.len() as u16).to_le_bytes(), body].concat()
    }

    #[test]
    fn the_most_exact_time_wins_wherever_it_stands() {
        let dos = of_dos(0x5000, 0);
        let ntfs = [&[0; 4][..], &[1, 0, 24, 0], &132_000_000_005_000_000u64.to_le_bytes(), &[0; 16]].concat();
        let times = [&[1][..], &1_600_000_000u32.to_le_bytes()].concat();
        let (a, b) = (field(extra::NTFS, &ntfs), field(extra::TIMES, &times));
        for both in [[a.clone(), b.clone()].concat(), [b.clone(), a].concat()] {
            let time = Extras::parse(&both, dos).time.unwrap();
            assert_eq!(time, Time { secs: 1_555_526_400, nanos: 500_000_000 });
        }
        assert_eq!(Extras::parse(&b, dos).time.unwrap().secs, 1_600_000_000);
        let early = field(extra::TIMES, &[1, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(Extras::parse(&early, of_dos(0, 0)).time.unwrap().secs, -1);
        assert_eq!(Extras::parse(&early, of_dos(0xffff, 0)).time.unwrap().secs, i64::from(u32::MAX));
    }

    #[test]
    fn fields_that_are_torn_or_too_short_tell_nothing() {
        let whole = field(extra::OWNER, &[1, 4, 232, 3, 0, 0, 4, 233, 3, 0, 0]);
        assert_eq!(Extras::parse(&whole, Time::default()).owner, Some((1000, 1001)));
        for cut in 0..whole.len() {
            let extras = Extras::parse(&whole[..cut], Time::default());
            assert_eq!((extras.owner, extras.is_torn), (None, cut >= 4));
        }
        for id in [extra::ZIP64, extra::NTFS, extra::PKWARE_UNIX, extra::TIMES, extra::OLD_UNIX, extra::ASI_UNIX] {
            for len in 0..40 {
                Extras::parse(&field(id, &vec![0xff; len]), Time::default());
            }
        }
        assert_eq!(owner(&[1, 8, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2]), Some((1, 2)));
        assert_eq!(owner(&[1, 8, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2]), None);
    }

    #[test]
    fn a_unicode_path_counts_only_for_the_name_it_was_made_of() {
        let text =
            field(extra::UNICODE_PATH, &[&[1][..], &crc32fast::hash(b"raw").to_le_bytes(), "é".as_bytes()].concat());
        let extras = Extras::parse(&text, Time::default());
        assert_eq!(extras.path.as_ref().unwrap().instead_of(b"raw"), Some("é"));
        assert_eq!(extras.path.as_ref().unwrap().instead_of(b"war"), None);
    }
}
