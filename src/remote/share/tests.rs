//! How long a file is taken for what it was.

use super::*;

/// A file that was changed at the beginning of a minute, and looked at so many seconds later; its listing tells minutes.
fn looked_at(later: i64) -> (Known, Option<Time>) {
    let now = Time::now().secs;
    let listed = Some(Time { secs: now - 180 - now.rem_euclid(60), nanos: 0 });
    let mut known = Known::new(ROOT, Item { modified: listed, ..Item::new("x", Kind::File) });
    known.is_now(5, listed);
    let ago = 180 + now.rem_euclid(60) - later;
    known.looked = Instant::now().checked_sub(Duration::from_secs(ago.unsigned_abs()));
    (known, listed)
}

#[test]
fn a_file_is_what_it_was_once_the_minute_of_its_change_is_over() {
    let (known, listed) = looked_at(90);
    assert!(known.is_settled(listed));
    assert!(!known.is_settled(None), "nobody says when it was changed");
    let (known, listed) = looked_at(20);
    assert!(!known.is_settled(listed), "it may have been changed twice in that minute");
}
