//! A record of a directory, and how dates are written.
//!
//! ```text
//!   0 length │ 1 of attributes │ 2 block │ 10 size │ 18 date │ 25 flags │ 26 unit, gap │ 32 length of the name │ name ┊to 2│ system use
//! ```

use crate::tree::Time;

/// The flags of a record.
mod flag {
    pub const DIRECTORY: u8 = 2;
    pub const ASSOCIATED: u8 = 4;
    pub const GOES_ON: u8 = 0x80;
}

/// Where the name begins.
const NAME: usize = 33;

/// A record as it stands in a directory.
pub struct Record<'a> {
    /// The first block of the data.
    pub block: u64,
    pub size: u64,
    pub time: Time,
    pub name: &'a [u8],
    /// What extensions say of it.
    pub system_use: &'a [u8],
    flags: u8,
    interleave: [u8; 2],
}

impl<'a> Record<'a> {
    /// The record at the front of bytes, and its length. A length of 0 says that the next one is in the next block.
    pub fn read(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let len = usize::from(*bytes.first()?);
        let bytes = bytes.get(..len).filter(|_| len > NAME)?;
        let name_end = NAME + usize::from(bytes[32]);
        let name = bytes.get(NAME..name_end)?;
        let system_use = bytes.get(name_end + (name_end & 1)..).unwrap_or_default();
        let record = Self {
            block: u64::from(number(bytes, 2)?) + u64::from(bytes[1]),
            size: number(bytes, 10)?.into(),
            time: short_date(bytes.get(18..25)?),
            name,
            system_use,
            flags: bytes[25],
            interleave: [bytes[26], bytes[27]],
        };
        Some((record, len))
    }

    pub fn is_directory(&self) -> bool {
        self.flags & flag::DIRECTORY != 0
    }

    /// What belongs to another file of the same name: the resources of a Macintosh.
    pub fn is_associated(&self) -> bool {
        self.flags & flag::ASSOCIATED != 0
    }

    /// Whether the next record is about the same file, and where it goes on.
    pub fn goes_on(&self) -> bool {
        self.flags & flag::GOES_ON != 0
    }

    pub fn is_interleaved(&self) -> bool {
        self.interleave != [0; 2]
    }

    /// The directory itself, or the one that it is in.
    pub fn is_self(&self) -> bool {
        self.name == [0]
    }

    pub fn is_parent(&self) -> bool {
        self.name == [1]
    }
}

/// A number that stands there in both byte orders: in the first of them.
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A date of seven bytes: years from 1900, and what is left of UTC in quarters of an hour.
pub fn short_date(bytes: &[u8]) -> Time {
    let [year, month, day, hour, minute, second, zone] = *bytes else { return Time::default() };
    date([1900 + i64::from(year), month.into(), day.into(), hour.into(), minute.into(), second.into()], zone, 0)
}

/// A date of 16 digits, with hundredths of a second, and a byte for the zone.
pub fn long_date(bytes: &[u8]) -> Time {
    let digits = |from: usize, to: usize| -> i64 {
        let text = bytes.get(from..to).and_then(|digits| std::str::from_utf8(digits).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    };
    let fields = [digits(0, 4), digits(4, 6), digits(6, 8), digits(8, 10), digits(10, 12), digits(12, 14)];
    let hundredths = digits(14, 16).clamp(0, 99) as u32;
    date(fields, bytes.get(16).copied().unwrap_or_default(), hundredths * 10_000_000)
}

/// Nothing where there is no date.
fn date([year, month, day, hour, minute, second]: [i64; 6], zone: u8, nanos: u32) -> Time {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Time::default();
    }
    // Years that begin in March end with their odd days.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
            - 1
            - 719_468;
    let secs = ((days * 24 + hour) * 60 + minute) * 60 + second - i64::from(zone.cast_signed()) * 900;
    Time { secs, nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_in_their_zone() {
        assert_eq!(short_date(&[70, 1, 1, 0, 0, 0, 0]).secs, 0);
        assert_eq!(short_date(&[126, 11, 23, 10, 20, 8, 8]).date(), "2026-11-23 08:20:08");
        assert_eq!(short_date(&[100, 2, 29, 0, 0, 0, 0xfc]).date(), "2000-02-29 01:00:00");
        assert_eq!(short_date(&[0; 7]), Time::default());
        let long = long_date(b"2026112310200850\x08");
        assert_eq!((long.date().as_str(), long.nanos), ("2026-11-23 08:20:08", 500_000_000));
        assert_eq!(long_date(b"0000000000000000\0"), Time::default());
    }
}
