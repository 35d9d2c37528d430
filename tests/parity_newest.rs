//! A container with parity whose end or header is damaged: what was committed behind its parity is there still.

mod common {
    pub mod dice;
    #[allow(dead_code)]
    pub mod disk;
    pub mod dress;
    #[allow(dead_code)]
    pub mod fs;
}

use common::disk::Disk;
use common::dress;
use common::fs::{Dump, Fs, Op, Ours, dump};
use std::sync::Arc;
use stmount::cache::Cache;
use stmount::formats::folder::Folder;
use stmount::formats::st::{Packer, Policy};
use stmount::formats::{self, Access};
use stmount::source::Memory;
use stmount::source::parity::Algorithm;
use stmount::vfs::Vfs;

/// A container whose parity covers the first of three states, and where each ends.
fn three_states() -> (Vec<u8>, Vec<Dump>, Vec<usize>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "one").unwrap();
    let policy = Policy { share: 0.2, algorithm: Algorithm::Wide };
    let packer = Packer { parity: Some(policy), ..dress::packer() };
    let disk = Arc::new(Disk::new(dress::pack(&packer, &Folder::open(folder.path()).unwrap())));
    let (mut states, mut ends) = (vec![seen(&disk.bytes()).unwrap()], vec![disk.bytes().len()]);
    for text in ["two", "three"] {
        let mut ours = Ours::mount(&disk);
        ours.apply(&Op::Write(vec!["a"], 0, text.into())).unwrap();
        ours.apply(&Op::Sync).unwrap();
        drop(ours);
        states.push(seen(&disk.bytes()).unwrap());
        ends.push(disk.bytes().len());
    }
    (disk.bytes(), states, ends)
}

fn access(bytes: &[u8]) -> Access {
    dress::read(Arc::new(Memory::new(bytes.to_vec())), Cache::new(4 << 20), "x.st")
}

fn seen(bytes: &[u8]) -> stmount::error::Result<Dump> {
    formats::open(access(bytes)).map(|volume| dump(&Vfs::new(volume.tree, Default::default())))
}

#[test]
fn the_newest_state_opens_that_is_whole() {
    let (whole, states, ends) = three_states();
    let without_header = |bytes: &[u8]| [&[0; 4096], &bytes[4096..]].concat();
    for header in [true, false] {
        let with = |bytes: Vec<u8>| if header { bytes } else { without_header(&bytes) };
        let opened = |bytes: Vec<u8>| seen(&with(bytes)).unwrap();
        assert!(opened(whole.clone()) == states[2], "{header}: whole");
        assert!(opened([&whole[..], &[7; 1000]].concat()) == states[2], "{header}: garbage behind");
        assert!(opened([&whole[..], &[0; 10_000]].concat()) == states[2], "{header}: zeros behind");
        assert!(opened(whole[..ends[2] - 300].to_vec()) == states[1], "{header}: the last commit is torn");
        assert!(opened(whole[..ends[1] - 300].to_vec()) == states[0], "{header}: the second one is");
    }
}

#[test]
fn who_writes_then_loses_nothing() {
    let (whole, states, _) = three_states();
    let disk = Arc::new(Disk::new([&whole[..], &[7; 1000]].concat()));
    let mut ours = Ours::mount(&disk);
    assert!(ours.dump() == states[2]);
    ours.apply(&Op::Create(vec!["b"])).unwrap();
    ours.apply(&Op::Sync).unwrap();
    drop(ours);
    assert!(seen(&disk.bytes()).unwrap()["/a"] == states[2]["/a"]);
}
