use super::battery::{Case, Opened, decode, member, mixed, python, through};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use stmount::error::{Kind, Result};
use stmount::source::streams::{Bzip2, Checked, Compress, Deflate, Deflate64, Ppmd};
use stmount::source::{Memory, ReadAt, Stream};

fn bzip2(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Bzip2::new(source, None)))
}

fn compress(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Compress::new(source)))
}

fn case<'a>(name: &'a str, packed: Vec<u8>, plain: &'a [u8], open: &'a dyn Fn(Arc<dyn ReadAt>) -> Opened) -> Case<'a> {
    Case { name, packed, plain, open, checked: true, ends: &[], weight: 4 << 20 }
}

/// The only member of an archive that 7z makes.
fn zipped(how: &str, plain: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), plain).unwrap();
    let done = Command::new("7z").args(["a", "-tzip", how, "a.zip", "a"]).current_dir(dir.path()).output();
    assert!(done.expect("7z is needed for this test").status.success());
    member(&fs::read(dir.path().join("a.zip")).unwrap())
}

#[test]
fn files_of_bzip2_come_out_from_each_block() {
    let plain = mixed(350_000);
    let blocks = case("-1", through("bzip2", &["-c", "-1"], &plain), &plain, &bzip2);
    let points = blocks.whole();
    assert_eq!(points.len(), 3);
    blocks.every_point(&points);
    case("less", through("bzip2", &["-c", "-1"], &plain[..120_000]), &plain[..120_000], &bzip2).stands();
    // Runs of all lengths, which are coded twice.
    let runs: Vec<u8> = (0..800usize).flat_map(|n| vec![n as u8 % 3; n]).chain(vec![7; 1_500_000]).collect();
    for level in ["-1", "-9"] {
        let runs = case(level, through("bzip2", &["-c", level], &runs), &runs, &bzip2);
        runs.every_point(&runs.whole());
    }
}

#[test]
fn several_streams_of_bzip2_are_one_file() {
    let plain = mixed(200_000);
    let pack = |part: &[u8], how: &str| through("bzip2", &["-c", how], part);
    let packed =
        [pack(&plain[..100], "-9"), pack(b"", "-1"), pack(&plain[100..60_000], "-2"), pack(&plain[60_000..], "-1")];
    Case { ends: &[0, 100, 60_000], ..case("streams", packed.concat(), &plain, &bzip2) }.stands();
    let parallel = through("pbzip2", &["-c", "-b1", "-1", "-p2"], &plain);
    Case { ends: &[100_000], ..case("pbzip2", parallel, &plain, &bzip2) }.whole();
    let padded = [pack(&plain, "-1"), b"garbage".to_vec()].concat();
    case("padded", padded, &plain, &bzip2).whole();
}

#[test]
fn files_of_compress_come_out_at_every_width() {
    let plain = mixed(300_000);
    // What ncompress writes with 9 bits it does not read either.
    for bits in ["10", "11", "12", "16"] {
        let packed = through("compress", &["-c", "-f", "-b", bits], &plain);
        Case { checked: false, ..case(bits, packed, &plain, &compress) }.stands();
    }
    // What changes its kind lets compress begin anew.
    let half =
        "import random\nrandom.seed(1)\no = b''.join(bytes([c] * 3) for c in d) + random.randbytes(200000) + d * 3";
    let changing = python(half, &plain[..100_000]);
    let packed = through("compress", &["-c", "-f", "-b", "12"], &changing);
    let cleared = Case { checked: false, ..case("cleared", packed, &changing, &compress) };
    let points = cleared.whole();
    assert!(!points.is_empty());
    cleared.every_point(&points);
    let empty = through("compress", &["-c", "-f"], b"");
    assert_eq!(decode(&*compress(Arc::new(Memory::new(empty))).unwrap(), None, 10).unwrap(), b"");
}

#[test]
fn deflate64_comes_out_from_each_block() {
    let mut plain = mixed(400_000);
    // Matches that are longer and farther than deflate has them.
    plain.extend_from_within(340_000..400_000);
    plain.extend(vec![0; 200_000]);
    let packed = zipped("-mm=Deflate64", &plain);
    let open = |source: Arc<dyn ReadAt>| -> Opened { Ok(Arc::new(Deflate64::new(source, None))) };
    let long = Case { checked: false, weight: 300 << 10, ..case("deflate64", packed, &plain, &open) };
    let points = long.whole();
    assert!(!points.is_empty());
    long.every_point(&points);
    long.cut_at_some(200);
    long.fallen_bits(&points);
}

#[test]
fn ppmd_comes_out_of_zip() {
    let plain = mixed(100_000);
    let packed = zipped("-mm=PPMd", &plain);
    let open = |source: Arc<dyn ReadAt>| -> Opened { Ok(Arc::new(Ppmd::in_zip(source, 100_000)?)) };
    let ppmd = Case { checked: false, weight: 256 << 20, ..case("ppmd", packed, &plain, &open) };
    ppmd.stands();
    ppmd.cut_at_some(200);
}

#[test]
fn ppmd_comes_out_of_7z() {
    let plain = mixed(100_000);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), &plain).unwrap();
    let how = ["a", "-m0=PPMd:o=8:mem=4m", "-mhc=off", "a.7z", "a"];
    let done = Command::new("7z").args(how).current_dir(dir.path()).output();
    assert!(done.expect("7z is needed for this test").status.success());
    // The data follow the header of 32 bytes; what stands behind them is not read.
    let packed = fs::read(dir.path().join("a.7z")).unwrap()[32..].to_vec();
    let open = |source: Arc<dyn ReadAt>| -> Opened { Ok(Arc::new(Ppmd::in_7z(source, 8, 4 << 20, 100_000)?)) };
    Case { checked: false, weight: 5 << 20, ..case("ppmd", packed, &plain, &open) }.stands();
    let memory = Arc::new(Memory::new(vec![]));
    assert_eq!(Ppmd::in_7z(memory, 8, u32::MAX, 1).err().map(|e| e.kind()), Some(Kind::Limit));
}

#[test]
fn a_cut_is_an_error_wherever_it_is() {
    let plain = mixed(2000);
    let both = [through("bzip2", &["-c"], &plain[..500]), through("bzip2", &["-c"], &plain[500..])].concat();
    Case { ends: &[500], ..case("bzip2", both, &plain, &bzip2) }.cut_everywhere();
    let open = case("compress", through("compress", &["-c", "-f"], &plain), &plain, &compress);
    Case { checked: false, ..open }.cut_everywhere();
}

#[test]
fn a_sum_and_a_length_from_elsewhere_are_checked() {
    let plain = mixed(50_000);
    let packed = python("import zlib\no = zlib.compress(d)[2:-4]", &plain);
    let sum = crc32fast::hash(&plain);
    let open = |packed: &[u8], len, sum| {
        let inner = Arc::new(Deflate::new(Arc::new(Memory::new(packed.to_vec())), None));
        Checked::new(inner, len, sum)
    };
    let kind = |checked: Checked| -> Result<usize, Kind> {
        decode(&checked, None, 100_000).map(|got| got.len()).map_err(|e| e.kind())
    };
    assert_eq!(kind(open(&packed, 50_000, Some(sum))), Ok(50_000));
    assert_eq!(kind(open(&packed, 50_000, None)), Ok(50_000));
    for wrong in [open(&packed, 50_000, Some(!sum)), open(&packed, 49_999, None), open(&packed, 50_001, Some(sum))] {
        assert_eq!(kind(wrong), Err(Kind::Damaged));
    }
    // Without the sum when begun in the middle, but still with the length.
    let checked = open(&packed, 50_000, Some(!sum));
    let mut decoder = Deflate::new(Arc::new(Memory::new(packed)), None).start(None).unwrap();
    let mut buf = vec![0; 70_000];
    while decoder.read(&mut buf).unwrap() > 0 {}
    if let Some(point) = decoder.point(1) {
        assert!(decode(&checked, Some(&point), 100_000).is_ok());
    }
}
