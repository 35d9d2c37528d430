use super::battery::{Case, Opened, decode, member, mixed, python, through};
use std::sync::Arc;
use stmount::error::Kind;
use stmount::source::streams::{Lzip, Lzma, Lzma2, Xz};
use stmount::source::{Memory, ReadAt, Stream};

/// What a decoder with the dictionary of `-1`, or with one as large as what it decodes, may take.
const WEIGHT: usize = 2 << 20;

fn xz(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Xz::new(source)))
}

fn lzip(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Lzip::new(source)))
}

fn alone(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Lzma::alone(source)?))
}

fn case<'a>(name: &'a str, packed: Vec<u8>, plain: &'a [u8], open: &'a dyn Fn(Arc<dyn ReadAt>) -> Opened) -> Case<'a> {
    Case { name, packed, plain, open, checked: true, ends: &[], weight: WEIGHT }
}

#[test]
fn files_of_xz_come_out_with_every_check_and_filter() {
    let plain = mixed(100_000);
    for how in [
        &["-1", "--check=crc32"][..],
        &["-1", "--check=sha256"],
        &["-1", "--x86", "--lzma2=preset=1"],
        &["-1", "--delta=dist=4", "--arm64", "--lzma2=preset=1"],
    ] {
        case(how[1], through("xz", &[&["-c"], how].concat(), &plain), &plain, &xz).stands();
    }
    let unchecked = case("none", through("xz", &["-c", "-1", "--check=none"], &plain), &plain, &xz);
    Case { checked: false, ..unchecked }.stands();
}

#[test]
fn each_block_of_xz_is_a_point_from_the_index() {
    let plain = mixed(300_000);
    let packed = through("xz", &["-c", "-1", "-T2", "--block-size=20000"], &plain);
    let blocks = case("blocks", packed.clone(), &plain, &xz);
    blocks.stands();
    assert_eq!(blocks.whole().len(), 14);
    // Blocks of other sizes, without their sizes in the headers.
    let listed = through("xz", &["-c", "-1", "--block-list=1,70000,3,0"], &plain);
    assert_eq!(case("list", listed, &plain, &xz).whole().len(), 3);
    // Without an index there is still a front.
    let torn = Xz::new(Arc::new(Memory::new(packed[..packed.len() - 1].to_vec())));
    assert_eq!((torn.len(), torn.points().unwrap()), (None, vec![]));
    let mut decoder = torn.start(None).unwrap();
    assert!(decoder.read(&mut [0; 100]).unwrap() > 0);
}

#[test]
fn several_streams_of_xz_are_one_file() {
    let plain = mixed(200_000);
    let pack = |part: &[u8]| through("xz", &["-c", "-1", "-T2", "--block-size=30000"], part);
    let packed = [
        pack(&plain[..0]),
        pack(&plain[..100_000]),
        vec![0; 4100 * 4],
        pack(&plain[100_000..100_000]),
        pack(&plain[100_000..100_001]),
        pack(&plain[100_001..]),
        vec![0; 4],
    ]
    .concat();
    let ends = [0, 100_000, 100_001];
    let streams = Case { ends: &ends, ..case("streams", packed, &plain, &xz) };
    streams.stands();
    assert_eq!(streams.whole().len(), 3 + 1 + 1 + 3);
}

#[test]
fn files_of_lzip_come_out_from_each_member() {
    let plain = mixed(150_000);
    let pack = |part: &[u8]| through("lzip", &["-c", "-1"], part);
    let packed = [pack(&plain[..90_000]), pack(b""), pack(&plain[90_000..90_001]), pack(&plain[90_001..])].concat();
    let members = Case { ends: &[0, 90_000, 90_001], ..case("members", packed, &plain, &lzip) };
    assert_eq!(members.whole().len(), 2);
    members.stands();
    let garbage = [through("lzip", &["-c", "-1"], &plain), b"garbage".to_vec()].concat();
    let behind = Lzip::new(Arc::new(Memory::new(garbage)));
    assert_eq!(behind.points().unwrap(), []);
    assert!(decode(&behind, None, plain.len()).unwrap() == plain);
}

#[test]
fn the_old_format_comes_out_with_and_without_its_length() {
    let plain = mixed(100_000);
    let packed = through("xz", &["-c", "-1", "--format=lzma"], &plain);
    let marked = Case { checked: false, ..case("marked", packed, &plain, &alone) };
    marked.stands();
    let mut sized = python("import lzma\no = lzma.compress(d, lzma.FORMAT_ALONE, preset=1)", &plain);
    sized[5..13].copy_from_slice(&(plain.len() as u64).to_le_bytes());
    Case { checked: false, ..case("sized", sized, &plain, &alone) }.stands();
}

#[test]
fn a_member_of_zip_by_lzma_comes_out() {
    let plain = mixed(50_000);
    let lines = "import io, zipfile\nb = io.BytesIO()\nwith zipfile.ZipFile(b, 'w', zipfile.ZIP_LZMA) as z: z.writestr('a', d)\n\
                 o = b.getvalue()";
    let packed = member(&python(lines, &plain));
    let open = |source: Arc<dyn ReadAt>| -> Opened { Ok(Arc::new(Lzma::in_zip(source, Some(50_000))?)) };
    Case { checked: false, ..case("zip", packed, &plain, &open) }.stands();
}

#[test]
fn bare_lzma2_has_points_where_its_dictionary_is_emptied() {
    let plain = mixed(400_000);
    let pack = |part: &[u8]| {
        let lines =
            "import lzma\no = lzma.compress(d, lzma.FORMAT_RAW, filters=[{'id': lzma.FILTER_LZMA2, 'preset': 1}])[:-1]";
        python(lines, part)
    };
    let mut packed: Vec<u8> = plain.chunks(100_000).flat_map(pack).collect();
    packed.push(0);
    let open = |source: Arc<dyn ReadAt>| -> Opened { Ok(Arc::new(Lzma2::new(source, 16, Some(400_000)))) };
    let bare = Case { checked: false, ..case("lzma2", packed, &plain, &open) };
    let points = bare.whole();
    assert_eq!(points.iter().map(|p| p.at).collect::<Vec<_>>(), [100_000, 200_000, 300_000]);
    bare.every_point(&points);
    bare.fallen_bits(&points);
    bare.cut_at_some(1000);
}

#[test]
fn a_cut_is_an_error_wherever_it_is() {
    let plain = mixed(2000);
    let streams = [through("xz", &["-c", "-1"], &plain[..500]), through("xz", &["-c", "-1"], &plain[500..])].concat();
    Case { ends: &[500], ..case("xz", streams, &plain, &xz) }.cut_everywhere();
    let members =
        [through("lzip", &["-c", "-1"], &plain[..500]), through("lzip", &["-c", "-1"], &plain[500..])].concat();
    Case { ends: &[500], ..case("lzip", members, &plain, &lzip) }.cut_everywhere();
    let old = through("xz", &["-c", "-1", "--format=lzma"], &plain);
    case("alone", old, &plain, &alone).cut_everywhere();
}

#[test]
fn a_dictionary_that_is_too_large_is_refused() {
    let mut alone = through("xz", &["-c", "-1", "--format=lzma"], b"small");
    alone[1..5].copy_from_slice(&(1792u32 << 20).to_le_bytes());
    let stream = Lzma::alone(Arc::new(Memory::new(alone))).unwrap();
    assert_eq!(decode(&stream, None, 100).unwrap_err().kind(), Kind::Limit);
    let stream = Lzma2::new(Arc::new(Memory::new(vec![0])), 40, None);
    assert_eq!(decode(&stream, None, 100).unwrap_err().kind(), Kind::Limit);
}
