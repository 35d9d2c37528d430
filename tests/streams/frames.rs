use super::battery::{Case, Opened, decode, mixed, through};
use std::sync::Arc;
use stmount::error::Kind;
use stmount::source::streams::{Brotli, Lz4, Zstd};
use stmount::source::{Memory, ReadAt, Stream};

fn zstd(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Zstd::new(source)))
}

fn lz4(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Lz4::new(source)))
}

fn brotli(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Brotli::new(source, None)))
}

fn case<'a>(name: &'a str, packed: Vec<u8>, plain: &'a [u8], open: &'a dyn Fn(Arc<dyn ReadAt>) -> Opened) -> Case<'a> {
    Case { name, packed, plain, open, checked: true, ends: &[], weight: 10 << 20 }
}

/// A frame that is to be left out.
fn skippable(content: &[u8]) -> Vec<u8> {
    [&0x184d_2a53u32.to_le_bytes()[..], &(content.len() as u32).to_le_bytes(), content].concat()
}

#[test]
fn files_of_zstd_come_out_with_and_without_a_check() {
    let plain = mixed(200_000);
    for how in [&["-1"][..], &["-19"], &["-3", "--long=20"]] {
        case(how[0], through("zstd", &[&["-c"], how].concat(), &plain), &plain, &zstd).stands();
    }
    let unchecked = case("unchecked", through("zstd", &["-c", "--no-check"], &plain), &plain, &zstd);
    Case { checked: false, ..unchecked }.stands();
    let known = [through("zstd", &["-c", &format!("--stream-size={}", plain.len())], &plain)].concat();
    assert_eq!(Zstd::new(Arc::new(Memory::new(known))).len(), Some(200_000));
}

#[test]
fn each_frame_of_zstd_is_a_point() {
    let plain = mixed(300_000);
    let size = |len: usize| format!("--stream-size={len}");
    let pack = |part: &[u8]| through("zstd", &["-c", "-1", &size(part.len())], part);
    let packed = [
        skippable(b"what zstd does not know"),
        pack(&plain[..100_000]),
        pack(b""),
        skippable(&[0; 70_000]),
        pack(&plain[100_000..100_001]),
        pack(&plain[100_001..250_000]),
        pack(&plain[250_000..]),
        skippable(b""),
    ]
    .concat();
    let frames = Case { ends: &[0, 100_000, 100_001, 250_000], ..case("frames", packed, &plain, &zstd) };
    frames.stands();
    assert!(frames.whole().iter().any(|p| p.at == 250_000));
}

#[test]
fn a_table_of_frames_is_known_ahead() {
    let plain = mixed(200_000);
    for checks in [false, true] {
        let (mut packed, mut table) = (Vec::new(), Vec::new());
        for part in plain.chunks(30_000) {
            let frame = through("zstd", &["-c", "-1"], part);
            table.extend((frame.len() as u32).to_le_bytes());
            table.extend((part.len() as u32).to_le_bytes());
            table.extend_from_slice(if checks { &[1; 4] } else { &[] });
            packed.extend(frame);
        }
        table.extend(7u32.to_le_bytes());
        table.push(if checks { 0x80 } else { 0 });
        table.extend(0x8f92_eab1u32.to_le_bytes());
        packed.extend(0x184d_2a5eu32.to_le_bytes());
        packed.extend((table.len() as u32).to_le_bytes());
        packed.extend(table);
        let stream = Zstd::new(Arc::new(Memory::new(packed.clone())));
        let known: Vec<_> = stream.points().unwrap().iter().map(|p| p.at).collect();
        assert_eq!(known, [30_000, 60_000, 90_000, 120_000, 150_000, 180_000]);
        assert_eq!(stream.len(), Some(200_000));
        let ends: Vec<_> = known.iter().map(|at| *at as usize).collect();
        let seekable = case("seekable", packed, &plain, &zstd);
        let points = seekable.known();
        seekable.every_point(&points);
        Case { ends: &ends, ..seekable }.fallen_bits(&points);
    }
}

#[test]
fn a_window_that_is_too_large_is_refused() {
    let plain = mixed(10_000);
    let packed = through("zstd", &["-c", "--ultra", "-22", "--long=31"], &plain);
    let source: Arc<dyn ReadAt> = Arc::new(Memory::new(packed));
    let refused = decode(&Zstd::new(source.clone()), None, 20_000).unwrap_err();
    assert_eq!(refused.kind(), Kind::Limit, "{refused}");
    assert!(decode(&Zstd::new(source).with_window(31), None, 20_000).unwrap() == plain);
}

#[test]
fn files_of_lz4_come_out_with_blocks_of_all_kinds() {
    let plain = mixed(300_000);
    for how in [&["-1"][..], &["-9", "-B4", "-BD"], &["-B4", "-BX"], &["-B5", "-BD", "-BX", "--content-size"]] {
        case(how[0], through("lz4", &[&["-c"], how].concat(), &plain), &plain, &lz4).stands();
    }
    let unchecked = case("unchecked", through("lz4", &["-c", "--no-frame-crc"], &plain), &plain, &lz4);
    Case { checked: false, ..unchecked }.stands();
}

#[test]
fn a_block_of_lz4_is_a_point_where_it_stands_for_itself() {
    let plain = mixed(400_000);
    let apart = case("independent", through("lz4", &["-c", "-B4", "-BI"], &plain), &plain, &lz4);
    let points = apart.whole();
    assert_eq!(points.len(), 6);
    apart.every_point(&points);
    assert_eq!(case("linked", through("lz4", &["-c", "-B4", "-BD"], &plain), &plain, &lz4).whole(), []);
}

#[test]
fn several_frames_of_lz4_are_one_file() {
    let plain = mixed(200_000);
    let pack = |part: &[u8], how: &str| through("lz4", &["-c", how], part);
    let packed = [
        pack(&plain[..100_000], "-1"),
        skippable(&[1; 100]),
        pack(b"", "-1"),
        pack(&plain[100_000..150_000], "-BD"),
        pack(&plain[150_000..], "-9"),
    ]
    .concat();
    Case { ends: &[0, 100_000, 150_000], ..case("frames", packed, &plain, &lz4) }.stands();
}

#[test]
fn lz4_before_frames_comes_out() {
    let plain = mixed(200_000);
    let packed = through("lz4", &["-c", "-l"], &plain);
    let old = |packed| Case { checked: false, weight: 20 << 20, ..case("old", packed, &plain, &lz4) };
    old(packed.clone()).stands();
    // Two of them, one behind the other, and a frame of today.
    let tail = through("lz4", &["-c"], &plain[150_000..]);
    let packed =
        [through("lz4", &["-c", "-l"], &plain[..100]), through("lz4", &["-c", "-l"], &plain[100..150_000]), tail];
    old(packed.concat()).whole();
}

#[test]
fn files_of_brotli_come_out() {
    let plain = mixed(200_000);
    for how in [&["-q", "1"][..], &["-q", "9", "-w", "24"], &["-q", "5", "-w", "10"], &["-q", "5", "--large_window=25"]]
    {
        let packed = through("brotli", &[&["-c"], how].concat(), &plain);
        Case { checked: false, weight: 34 << 20, ..case(how[0], packed, &plain, &brotli) }.stands();
    }
    let large = through("brotli", &["-c", "-q", "5", "--large_window=30"], &plain);
    let stream = Brotli::new(Arc::new(Memory::new(large)), None);
    assert_eq!(decode(&stream, None, 1000).unwrap_err().kind(), Kind::Limit);
}

#[test]
fn a_cut_is_an_error_wherever_it_is() {
    let plain = mixed(2000);
    let both =
        |program: &str| [through(program, &["-c"], &plain[..500]), through(program, &["-c"], &plain[500..])].concat();
    Case { ends: &[500], ..case("zstd", both("zstd"), &plain, &zstd) }.cut_everywhere();
    Case { ends: &[500], ..case("lz4", both("lz4"), &plain, &lz4) }.cut_everywhere();
    case("brotli", through("brotli", &["-c"], &plain), &plain, &brotli).cut_everywhere();
}
