//! What stat(2) tells of a node.

/// The kind of a node. The numbers are `S_IFMT >> 12` of POSIX, and those of `d_type` in a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Fifo = 1,
    CharDevice = 2,
    Directory = 4,
    BlockDevice = 6,
    File = 8,
    Symlink = 10,
    Socket = 12,
}

impl Kind {
    pub fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            1 => Self::Fifo,
            2 => Self::CharDevice,
            4 => Self::Directory,
            6 => Self::BlockDevice,
            8 => Self::File,
            10 => Self::Symlink,
            12 => Self::Socket,
            _ => return None,
        })
    }

    /// The kind bits of a `st_mode`.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Self::from_code(u64::from((mode >> 12) & 0xf))
    }

    pub fn code(self) -> u8 {
        self as u8
    }

    /// The kind bits as `st_mode` has them.
    pub fn mode_bits(self) -> u32 {
        u32::from(self.code()) << 12
    }

    pub fn is_device(self) -> bool {
        matches!(self, Self::CharDevice | Self::BlockDevice)
    }
}

/// Seconds and nanoseconds since 1970-01-01 UTC. Nanoseconds count forward, also before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    pub secs: i64,
    pub nanos: u32,
}

impl Time {
    /// Year, month and day, in UTC.
    pub fn civil(self) -> (i64, u32, u32) {
        // By eras of 400 years, which begin on the first of March.
        let shifted = self.secs.div_euclid(86_400) + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
    }

    /// Days from 1970 to a date, by the same eras.
    pub fn days_to(year: i64, month: i64, day: i64) -> i64 {
        let year = if month <= 2 { year - 1 } else { year };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
    }

    pub fn now() -> Self {
        std::time::SystemTime::now().into()
    }

    /// `2026-11-23T08-20-08`, in UTC, for names of files.
    pub fn stamp(self) -> String {
        self.date().replace(' ', "T").replace(':', "-")
    }

    /// Down to whole steps of so many nanoseconds.
    pub fn rounded(self, step: u32) -> Self {
        Self { nanos: self.nanos - self.nanos % step.max(1), ..self }
    }

    /// `2026-11-23 08:20:08`, in UTC.
    pub fn date(self) -> String {
        let ((year, month, day), time) = (self.civil(), self.secs.rem_euclid(86_400));
        format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60)
    }
}

impl From<std::time::SystemTime> for Time {
    fn from(t: std::time::SystemTime) -> Self {
        match t.duration_since(std::time::UNIX_EPOCH) {
            Ok(d) => Self { secs: d.as_secs() as i64, nanos: d.subsec_nanos() },
            Err(e) => {
                let d = e.duration();
                let (secs, nanos) = (-(d.as_secs() as i64), d.subsec_nanos());
                if nanos == 0 { Self { secs, nanos } } else { Self { secs: secs - 1, nanos: 1_000_000_000 - nanos } }
            }
        }
    }
}

/// Attributes of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a file, length of the target of a link, 0 of everything else.
    pub size: u64,
    /// Names that lead here; for a directory 2 plus its subdirectories where the tree counts them, else 1.
    pub nlink: u32,
    /// Device number of a device node, see [`device`]; 0 of everything else.
    pub rdev: u64,
    pub mtime: Time,
    /// Time of the last access; trees that do not keep it give `mtime`.
    pub atime: Time,
    /// Time of the last change of attributes; trees that do not keep it give `mtime`.
    pub ctime: Time,
    /// Bytes that are data and not holes, for `st_blocks`.
    pub allocated: u64,
}

impl Attr {
    /// An empty node of root with one name, all of whose times are the same.
    pub fn new(kind: Kind, mode: u32, time: Time) -> Self {
        let (uid, gid, size, nlink, rdev, allocated) = (0, 0, 0, 1, 0, 0);
        Self { kind, mode, uid, gid, size, nlink, rdev, mtime: time, atime: time, ctime: time, allocated }
    }
}

/// User and group by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    pub user: Option<String>,
    pub group: Option<String>,
}

/// Device numbers travel as `major << 32 | minor`, which is what no operating system uses and each can be made from.
pub mod device {
    pub fn join(major: u32, minor: u32) -> u64 {
        (u64::from(major) << 32) | u64::from(minor)
    }

    pub fn major(device: u64) -> u32 {
        (device >> 32) as u32
    }

    pub fn minor(device: u64) -> u32 {
        device as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        assert_eq!(Time::from(UNIX_EPOCH - Duration::new(1, 250)), Time { secs: -2, nanos: 999_999_750 });
        assert_eq!(Time::from(UNIX_EPOCH + Duration::new(5, 7)), Time { secs: 5, nanos: 7 });
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |secs| Time { secs, nanos: 0 }.date();
        assert_eq!(at(0), "1970-01-01 00:00:00");
        assert_eq!(at(-1), "1969-12-31 23:59:59");
        assert_eq!(at(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(at(1_795_422_008), "2026-11-23 08:20:08");
    }
}
