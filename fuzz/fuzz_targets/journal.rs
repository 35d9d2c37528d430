//! Bytes are the batches of a journal: of each the length of its record, two bytes, the record, and eight bytes of contents. Hashes
//! are made right. What is replayed is walked and read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use stmount::cache::Cache;
use stmount::error::{Error, Kind, Result};
use stmount::formats::journal::{Journaled, Journals};
use stmount::formats::{self, Access, Holds, Notes, Settle, Task, Volume, Writer};
use stmount::source::{Memory, ReadAt, Stamp, Store};
use stmount::tree::{Changes, Tree};
use stmount_fuzz::walk;

const CONTENTS: usize = 8;
const BATCH: usize = 80;

/// A tar with a directory, two files, a link.
static ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut tar = Vec::new();
    for (name, kind) in [("d/", b'5'), ("d/f", b'0'), ("g", b'0'), ("l", b'2')] {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(b"00000000000");
        block[148..156].copy_from_slice(b"        ");
        (block[156], block[157]) = (kind, if kind == b'2' { b'g' } else { 0 });
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        tar.extend_from_slice(&block);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
});

struct Nothing;

impl Settle for Nothing {
    fn stamp(&self) -> Result<Stamp> {
        Stamp::of(&Memory::new(ARCHIVE.clone()))
    }

    fn settle(&self, _: &Task<'_>, _: &mut dyn Notes) -> Result<Arc<dyn Tree>> {
        Err(Error::new(Kind::Unsupported, "nothing is written"))
    }

    fn holds(&self) -> &'static Holds {
        &Holds::EVERYTHING
    }

    fn free(&self) -> Result<u64> {
        Ok(1 << 40)
    }
}

struct Kept(Arc<Memory>, bool);

impl Journals for Kept {
    fn open(&self) -> Result<Option<Arc<dyn Store>>> {
        Ok(self.1.then(|| self.0.clone() as Arc<dyn Store>))
    }

    fn create(&self) -> Result<Arc<dyn Store>> {
        Ok(self.0.clone())
    }

    fn remove(&self) -> Result<()> {
        Ok(())
    }

    fn path(&self) -> PathBuf {
        "journal".into()
    }
}

fn opened() -> Volume {
    let bytes = Arc::new(Memory::new(ARCHIVE.clone()));
    formats::open(Access::to_read(bytes, Cache::new(1 << 20), "a.tar")).unwrap()
}

/// The front of a journal over the archive.
static HEADER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let file = Arc::new(Memory::new(Vec::new()));
    let kept = Box::new(Kept(file.clone(), false));
    let (writer, _) = Journaled::new(opened().tree, 100, Arc::new(Nothing), kept, None).unwrap();
    writer.commit(&Changes::default()).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"STJB").unwrap();
    bytes[..end].to_vec()
});

fuzz_target!(|bytes: &[u8]| {
    let (mut journal, mut rest, mut sequence) = (HEADER.clone(), bytes, 0u64);
    let mut last = journal[journal.len() - 32..].to_vec();
    while let Some((len, behind)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(behind.len());
        let (record, behind) = behind.split_at(len);
        let (contents, behind) = behind.split_at(CONTENTS.min(behind.len()));
        sequence += 1;
        let mut batch = [&b"STJB"[..], &(len as u32).to_le_bytes(), &(contents.len() as u64).to_le_bytes()].concat();
        batch.extend_from_slice(&sequence.to_le_bytes());
        batch.resize(BATCH - 32, 0);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&batch).update(&last).update(contents).update(record);
        last = hasher.finalize().as_bytes().to_vec();
        journal.extend_from_slice(&[&batch, &last, contents, record].concat());
        rest = behind;
    }
    let kept = Box::new(Kept(Arc::new(Memory::new(journal)), true));
    if let Ok((writer, replayed)) = Journaled::new(opened().tree, 100, Arc::new(Nothing), kept, None) {
        assert_eq!(replayed.batches, sequence);
        walk::walk(&*writer.tree());
        let _ = (writer.tree().totals(), writer.differences(), writer.unsettled());
    }
});
