//! The container, seen from outside: what is packed comes back.

use std::sync::Arc;
use stmount::cache::Cache;
use stmount::formats::folder::Folder;
use stmount::formats::st::{Container, Packer};
use stmount::formats::{Access, Pack, Unwatched};
use stmount::source::Memory;

#[test]
fn smoke() {
    let src = std::env::var("SRC").unwrap_or("/usr/share/doc".into());
    let tree = Folder::open(std::path::Path::new(&src)).unwrap();
    let mut out = Vec::new();
    let level = std::env::var("LEVEL").map_or(6, |l| l.parse().unwrap());
    let t = std::time::Instant::now();
    let packed = Packer { level, ..Packer::default() }.pack(&tree, &mut out, &Unwatched).unwrap();
    println!("{packed:?} {:?}", t.elapsed());
    let len = out.len();
    if let Ok(p) = std::env::var("OUT") {
        std::fs::write(p, &out).unwrap();
    }
    let access = Access { bytes: Arc::new(Memory::new(out)), cache: Cache::new(64 << 20), name: "x.st".into() };
    let c = Container::open(access).unwrap();
    let checked = c.check(2, &Unwatched).unwrap();
    println!("{len} {:?} {:?}", c.info().unwrap(), checked.is_whole());
    assert!(checked.is_whole());
}
