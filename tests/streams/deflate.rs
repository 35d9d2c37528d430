use super::battery::{Case, Opened, decode, mixed, python, through};
use std::sync::Arc;
use stmount::error::{Error, Kind};
use stmount::source::streams::{Deflate, Gzip, Zlib};
use stmount::source::{Memory, ReadAt, Stream};

/// What a decoder of deflate may take.
const WEIGHT: usize = 200 << 10;

fn gzip(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Gzip::new(source)?))
}

fn zlib(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Zlib::new(source, None)))
}

fn deflate(source: Arc<dyn ReadAt>) -> Opened {
    Ok(Arc::new(Deflate::new(source, None)))
}

fn case<'a>(name: &'a str, packed: Vec<u8>, plain: &'a [u8], open: &'a dyn Fn(Arc<dyn ReadAt>) -> Opened) -> Case<'a> {
    Case { name, packed, plain, open, checked: true, ends: &[], weight: WEIGHT }
}

#[test]
fn files_of_gzip_come_out_from_everywhere() {
    let plain = mixed(1_000_000);
    for level in ["-1", "-6", "-9"] {
        let case = case(level, through("gzip", &["-c", level], &plain), &plain, &gzip);
        let points = case.whole();
        assert!(points.len() > 5, "{} points", points.len());
        case.every_point(&points);
    }
    case("less", through("gzip", &["-c"], &plain[..150_000]), &plain[..150_000], &gzip).stands();
}

#[test]
fn every_way_to_deflate_is_understood() {
    let plain = mixed(200_000);
    for how in [
        "6, zlib.DEFLATED, -15, 9, zlib.Z_FIXED",
        "6, zlib.DEFLATED, -15, 1, zlib.Z_HUFFMAN_ONLY",
        "9, zlib.DEFLATED, -15, 1, zlib.Z_RLE",
        "9, zlib.DEFLATED, -9, 9",
        "0, zlib.DEFLATED, -15",
    ] {
        let lines = format!("import zlib\nc = zlib.compressobj({how})\no = c.compress(d) + c.flush()");
        let raw = Case { checked: false, ..case(how, python(&lines, &plain), &plain, &deflate) };
        raw.stands();
    }
}

#[test]
fn blocks_that_are_empty_or_flushed_are_points_as_well() {
    let plain = mixed(200_000);
    let lines = "import zlib\nc = zlib.compressobj(6, zlib.DEFLATED, 15)\no = b''\nfor i in range(0, len(d), 9999):\n  \
                 o += c.compress(d[i:i + 9999]) + c.flush([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH][i & 1])\no += c.flush()";
    case("flushed", python(lines, &plain), &plain, &zlib).stands();
}

#[test]
fn many_members_are_one_file() {
    let plain = mixed(300_000);
    let (mut packed, mut ends) = (Vec::new(), vec![0]);
    for part in [0..0, 0..100_000, 100_000..100_001, 100_001..280_000, 280_000..280_000, 280_000..300_000] {
        ends.push(part.end);
        packed.extend(through("gzip", &["-c"], &plain[part]));
    }
    let members = Case { ends: &ends, ..case("members", packed, &plain, &gzip) };
    members.stands();
    let points = members.whole();
    assert!([100_000, 100_001, 280_000].iter().all(|at| points.iter().any(|p| p.at == *at)));
}

#[test]
fn a_cut_is_an_error_wherever_it_is() {
    let plain = mixed(3000);
    let packed = [through("gzip", &["-c"], &plain[..1000]), through("gzip", &["-c"], &plain[1000..])].concat();
    Case { ends: &[1000], ..case("two members", packed, &plain, &gzip) }.cut_everywhere();
    case("zlib", python("import zlib\no = zlib.compress(d)", &plain), &plain, &zlib).cut_everywhere();
    let raw = python("import zlib\no = zlib.compress(d)[2:-4]", &plain);
    case("raw", raw, &plain, &deflate).cut_everywhere();
}

#[test]
fn what_stands_behind_whole_members_does_not_count() {
    let plain = mixed(5000);
    let packed = through("gzip", &["-c"], &plain);
    for behind in [&[0; 10_000][..], b"garbage", b"\x1f", b"\0\0\x1f\x8b\x08"] {
        let padded = [&packed, behind].concat();
        assert_eq!(case("padded", padded, &plain, &gzip).whole(), []);
    }
    // As gzip(1): what begins like a member has to be one.
    let torn = [&packed[..], b"\x1f\x8b\x08\0"].concat();
    let stream = Gzip::new(Arc::new(Memory::new(torn))).unwrap();
    assert_eq!(decode(&stream, None, 10_000).unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn a_header_tells_name_and_time() {
    let lines = "import gzip, io\nb = io.BytesIO()\nwith gzip.GzipFile('some.txt', 'wb', 9, b, 1234567890) as f: f.write(d)\n\
                 o = b.getvalue()";
    let packed = python(lines, b"content");
    let open = |bytes: &[u8]| Gzip::new(Arc::new(Memory::new(bytes.to_vec())));
    let stream = open(&packed).unwrap();
    assert_eq!((stream.name(), stream.mtime()), (Some(&b"some.txt"[..]), Some(1_234_567_890)));
    // All fields at once: FHCRC | FEXTRA | FNAME | FCOMMENT.
    let mut full = b"\x1f\x8b\x08\x1e\0\0\0\0\0\xff\x03\0abcname\0comment\0".to_vec();
    let sum = crc32fast::hash(&full) as u16;
    full.extend(sum.to_le_bytes());
    full.extend_from_slice(&packed[10 + "some.txt\0".len()..]);
    let stream = open(&full).unwrap();
    assert_eq!((stream.name(), stream.mtime()), (Some(&b"name"[..]), None));
    assert_eq!(decode(&stream, None, 100).unwrap(), b"content");
    full[13] ^= 1;
    assert_eq!(open(&full).err().map(|e| e.kind()), Some(Kind::Damaged));
    let endless = [&b"\x1f\x8b\x08\x08\0\0\0\0\0\xff"[..], &[b'n'; 1 << 20]].concat();
    assert_eq!(open(&endless).err().map(|e| e.kind()), Some(Kind::Limit));
}

#[test]
fn an_error_names_the_place() {
    let plain = mixed(200_000);
    let mut packed = through("gzip", &["-c"], &plain);
    let middle = packed.len() / 2;
    packed[middle..middle + 100].fill(0xff);
    let stream = Gzip::new(Arc::new(Memory::new(packed))).unwrap();
    let e: Error = decode(&stream, None, 300_000).unwrap_err();
    assert!(e.to_string().contains("at byte"), "{e}");
}

#[test]
fn ten_gibibytes_of_zeros_cost_what_is_read_of_them() {
    let one = through("gzip", &["-c"], &vec![0; 64 << 20]);
    let stream = Gzip::new(Arc::new(Memory::new(one.repeat(160)))).unwrap();
    let mut decoder = stream.start(None).unwrap();
    let mut buf = vec![1; 100_000];
    let n = decoder.read(&mut buf).unwrap();
    assert!(n > 0 && buf[..n].iter().all(|b| *b == 0) && decoder.weight() <= WEIGHT);
}
