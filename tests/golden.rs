//! Containers that were written once and must open for ever. `golden/make.py` shows how they came to be; the listings
//! beside them were written from the same plain values and not by reading the containers.

#[path = "common/listing.rs"]
mod listing;

use std::path::PathBuf;
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::formats::st::Container;
use stmount::formats::{Access, Unwatched};
use stmount::source::Memory;

fn golden() -> Vec<PathBuf> {
    let dir = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).unwrap();
    let mut all: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "st"));
    all.sort();
    assert!(all.len() >= 9, "golden containers are missing: {all:?}");
    all
}

#[test]
fn every_golden_container_opens_and_holds_what_it_held() {
    for path in golden() {
        let expected = std::fs::read_to_string(path.with_extension("jsonl")).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let name = path.display().to_string();
        let access = Access::to_read(Arc::new(Memory::new(bytes)), Cache::new(1 << 20), &*name);
        let container = Container::open(access).unwrap();
        listing::assert_same(&expected, &listing::of(&container).unwrap(), &name);
        let checked = container.check(2, &Unwatched).unwrap();
        assert!(checked.is_whole(), "{name}: {checked:?}");
    }
}

#[test]
fn the_other_reader_agrees() {
    for path in golden() {
        let expected = std::fs::read_to_string(path.with_extension("jsonl")).unwrap();
        listing::assert_same(&expected, &listing::say("st_ref.py", &["list".as_ref(), &path]), &path.to_string_lossy());
        listing::say("st_ref.py", &["check".as_ref(), &path]);
    }
}
