//! Times as several formats have them.

use crate::tree::Time;

/// The time of DOS, of which nobody knows the zone: taken as UTC.
pub fn of_dos(date: u16, time: u16) -> Time {
    let (year, month, day) = (1980 + i64::from(date >> 9), (date >> 5 & 15).clamp(1, 12), (date & 31).max(1));
    let seconds = i64::from(time >> 11) * 3600 + i64::from(time >> 5 & 63) * 60 + i64::from(time & 31) * 2;
    Time { secs: Time::days_to(year, month.into(), day.into()) * 86_400 + seconds, nanos: 0 }
}

/// Steps of 100 ns since 1601, as Windows counts.
pub fn of_windows(steps: u64) -> Time {
    const SECOND: u64 = 10_000_000;
    const FROM_1601_TO_1970: i64 = 11_644_473_600;
    Time { secs: (steps / SECOND) as i64 - FROM_1601_TO_1970, nanos: (steps % SECOND) as u32 * 100 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_dos_are_those_of_the_calendar() {
        let date = |y: u16, m: u16, d: u16| (y - 1980) << 9 | m << 5 | d;
        assert_eq!(of_dos(date(2000, 2, 29), 0).date(), "2000-02-29 00:00:00");
        assert_eq!(of_dos(date(2107, 12, 31), 23 << 11 | 59 << 5 | 29).date(), "2107-12-31 23:59:58");
        assert_eq!(of_dos(date(2024, 3, 1), 1 << 5).date(), "2024-03-01 00:01:00");
        assert_eq!(of_dos(0, 0).date(), "1980-01-01 00:00:00");
        assert_eq!(of_dos(0xffff, 0xffff).secs, of_dos(date(2107, 12, 31), 0).secs + 31 * 3600 + 63 * 60 + 62);
    }
}
