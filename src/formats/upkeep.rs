//! Which earlier states stay, and how much space that nothing needs may lie in a container.

use crate::tree::Time;

/// What a writer keeps when it gives space back. States with names always stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// So many bytes that nothing needs may lie in a container, or as many as are needed when that is more.
    pub slack: u64,
    /// The newest states, whatever their time.
    pub last: u32,
    /// The newest state of each of so many hours, days, weeks and months that have any.
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self { slack: 64 << 20, last: 32, hourly: 24, daily: 31, weekly: 9, monthly: 12 }
    }
}

impl Upkeep {
    /// Only what has a name stays.
    pub fn nothing(slack: u64) -> Self {
        Self { slack, last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0 }
    }

    /// All states stay.
    pub fn everything() -> Self {
        Self { last: u32::MAX, ..Self::default() }
    }

    /// Which states stay, of those whose times are given, newest first.
    pub fn kept(&self, times: &[Time]) -> Vec<bool> {
        let mut kept = vec![false; times.len()];
        kept.iter_mut().take(self.last as usize).for_each(|keep| *keep = true);
        let days = |time: &Time| time.secs.div_euclid(86_400);
        newest_of_each(self.hourly, times, |time| time.secs.div_euclid(3600), &mut kept);
        newest_of_each(self.daily, times, days, &mut kept);
        // The first day of 1970 was a Thursday; weeks begin on Monday.
        newest_of_each(self.weekly, times, |time| (days(time) + 3).div_euclid(7), &mut kept);
        newest_of_each(self.monthly, times, month, &mut kept);
        kept
    }
}

fn month(time: &Time) -> i64 {
    let (year, month, _) = time.civil();
    year * 12 + i64::from(month)
}

fn newest_of_each(mut count: u32, times: &[Time], period: impl Fn(&Time) -> i64, kept: &mut [bool]) {
    let mut last = None;
    for (time, keep) in times.iter().zip(kept) {
        let this = period(time);
        if last == Some(this) {
            continue;
        }
        if count == 0 {
            return;
        }
        (*keep, last) = (true, Some(this));
        count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    /// Monday, 5 January 2026, 12:00.
    const NOON: i64 = 1_767_614_400;

    fn kept(upkeep: Upkeep, times: &[i64]) -> Vec<i64> {
        let all: Vec<Time> = times.iter().map(|secs| Time { secs: *secs, nanos: 0 }).collect();
        times.iter().zip(upkeep.kept(&all)).filter(|(_, keep)| *keep).map(|(time, _)| *time).collect()
    }

    #[test]
    fn the_newest_stay_whatever_their_time() {
        let times = [NOON, NOON - 1, NOON - 1, NOON - 2];
        assert_eq!(kept(Upkeep { last: 2, ..Upkeep::nothing(0) }, &times), [NOON, NOON - 1]);
        assert_eq!(kept(Upkeep { last: 9, ..Upkeep::nothing(0) }, &times), times);
        assert!(kept(Upkeep::nothing(0), &times).is_empty());
    }

    #[test]
    fn of_each_period_the_newest_stays() {
        let times = [NOON, NOON - 60, NOON - HOUR, NOON - HOUR - 60, NOON - DAY, NOON - 3 * DAY, NOON - 40 * DAY];
        let none = Upkeep::nothing(0);
        assert_eq!(kept(Upkeep { hourly: 2, ..none }, &times), [NOON, NOON - 60]);
        assert_eq!(kept(Upkeep { daily: 3, ..none }, &times), [NOON, NOON - DAY, NOON - 3 * DAY]);
        assert_eq!(kept(Upkeep { weekly: 2, ..none }, &times), [NOON, NOON - DAY], "a week begins on Monday");
        assert_eq!(kept(Upkeep { monthly: 9, ..none }, &times), [NOON, NOON - 40 * DAY]);
    }
}
