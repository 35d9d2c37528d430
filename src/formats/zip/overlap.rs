//! Entries whose data overlap: what nobody makes by accident, and what lets a small archive claim to hold petabytes
//! (David Fifield, "A better zip bomb").

use super::entry::Member;
use super::layout::Local;
use std::collections::HashSet;

/// So many entries may have one header: some programs list a file twice, and it makes no bomb.
const ALIASES: usize = 8;

/// The entries whose data reach to the header of another one, or into the list of entries, which begins at `list_at`. Of
/// many with one header, the first are those that may have it.
pub fn find(members: &[Member], list_at: u64) -> HashSet<u64> {
    let extent = |member: &Member| {
        let front = member.header_at.saturating_add(size_of::<Local>() as u64);
        (member.header_at, front.saturating_add(member.packed))
    };
    let mut found = HashSet::new();
    let is_ascending = members.windows(2).all(|pair| extent(&pair[0]).1 <= pair[1].header_at);
    if is_ascending && members.last().is_none_or(|last| extent(last).1 <= list_at) {
        return found;
    }
    let mut order: Vec<u32> = (0..members.len() as u32).collect();
    order.sort_unstable_by_key(|number| (members[*number as usize].header_at, *number));
    let mut next = u64::MAX;
    // From behind: the next header is the limit of each.
    for (at, number) in order.iter().enumerate().rev() {
        let (start, data_end) = extent(&members[*number as usize]);
        let before = |by: usize| at.checked_sub(by).map(|before| members[order[before] as usize].header_at);
        let limit = if start < list_at { next.min(list_at) } else { next };
        if data_end > limit || before(ALIASES) == Some(start) {
            found.insert(u64::from(*number));
        }
        if before(1) != Some(start) {
            next = start;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::entry::Cipher;
    use super::*;

    fn overlapping(extents: &[(u64, u64)], end: u64) -> Vec<u64> {
        let member = |&(header_at, packed): &(u64, u64)| Member {
            has_crc: true,
            header_at,
            packed,
            size: 0,
            crc: 0,
            time: 0,
            method: 0,
            flags: 0,
            name_len: 0,
            cipher: Cipher::None,
        };
        let mut found: Vec<_> = find(&extents.iter().map(member).collect::<Vec<_>>(), end).into_iter().collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn only_what_reaches_too_far_is_found() {
        assert_eq!(overlapping(&[(0, 10), (40, 10), (80, 20)], 130), [0u64; 0]);
        assert_eq!(overlapping(&[(80, 20), (0, 10), (40, 10)], 130), [0u64; 0]);
        assert_eq!(overlapping(&[(0, 11), (40, 10)], 130), [0]);
        assert_eq!(overlapping(&[(0, 10), (40, 90)], 130), [1]);
        assert_eq!(overlapping(&[(0, u64::MAX), (40, 10), (u64::MAX, 5)], 130), [0]);
        assert_eq!(overlapping(&[(0, 10), (200, 10)], 130), [0u64; 0]);
        assert_eq!(overlapping(&[], 0), [0u64; 0]);
    }

    #[test]
    fn of_many_that_share_their_data_few_are_left() {
        assert_eq!(overlapping(&[(40, 10), (40, 10), (0, 10), (40, 10)], 130), [0u64; 0]);
        assert_eq!(overlapping(&[(40, 10); 11], 130), [8, 9, 10]);
        // Each quotes the header of the next, as in the bomb.
        assert_eq!(overlapping(&[(0, 100), (40, 60), (80, 20)], 130), [0, 1]);
    }
}
