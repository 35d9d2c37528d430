use super::battery::{decode, mixed, through};
use std::sync::Arc;
use stmount::source::Memory;
use stmount::source::streams::{Compression, recognise, stream};

#[test]
fn what_programs_make_is_recognised_and_opened() {
    let plain = mixed(10_000);
    let xz = |format| through("xz", &["-c", format], &plain);
    for (packed, kind) in [
        (through("gzip", &["-c"], &plain), Compression::Gzip),
        (through("bzip2", &["-c"], &plain), Compression::Bzip2),
        (xz("--format=xz"), Compression::Xz),
        (xz("--format=lzma"), Compression::Lzma),
        (through("lzip", &["-c"], &plain), Compression::Lzip),
        (through("zstd", &["-c"], &plain), Compression::Zstd),
        (through("lz4", &["-c"], &plain), Compression::Lz4),
        (through("lz4", &["-c", "-l"], &plain), Compression::Lz4),
        (through("brotli", &["-c"], &plain), Compression::Brotli),
        (through("compress", &["-c"], &plain), Compression::Compress),
    ] {
        let name = format!("x.{}", kind.endings().next().unwrap());
        assert_eq!(recognise(&packed, &name), Some(kind), "{}", kind.name());
        // A name is only needed where there is no magic.
        let alone = Some(kind).filter(|kind| *kind != Compression::Brotli);
        assert_eq!(recognise(&packed, "x.bin"), alone, "{}", kind.name());
        let stream = stream(kind, Arc::new(Memory::new(packed))).unwrap();
        assert!(decode(&*stream, None, 20_000).unwrap() == plain, "{}", kind.name());
    }
    for kind in Compression::ALL.into_iter().filter(|kind| *kind != Compression::Brotli) {
        assert_eq!(recognise(&plain, &format!("x.{}", kind.endings().next().unwrap())), None);
    }
}

#[test]
fn empty_files_are_recognised_as_well() {
    for program in ["gzip", "bzip2", "xz", "lzip", "zstd", "lz4"] {
        let packed = through(program, &["-c"], b"");
        let kind = recognise(&packed, "x").unwrap_or_else(|| panic!("{program}"));
        assert_eq!(kind.name(), program);
        assert_eq!(decode(&*stream(kind, Arc::new(Memory::new(packed))).unwrap(), None, 10).unwrap(), b"");
    }
}
