//! Listings: what a tree holds as sorted JSON lines, one for each name. `st_ref.py list`, `os_list.py` and [`of`] write
//! the same text for the same tree, so three independent witnesses can be compared line by line.

#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use stmount::error::Result;
use stmount::source::ReadAt;
use stmount::tree::{Attr, Kind, Node, Tree, device};

/// The listing of a tree, as the Rust reader sees it.
pub fn of(tree: &dyn Tree) -> Result<String> {
    let (mut text, mut first, mut hashes) = (String::new(), HashMap::new(), HashMap::new());
    for (path, node) in paths(tree)? {
        let attr = tree.attr(node)?;
        let same = first.entry(node).or_insert_with(|| path.clone()).clone();
        if attr.kind == Kind::File && !hashes.contains_key(&node) {
            hashes.insert(node, hash_of(&*tree.open(node)?)?);
        }
        let hash = hashes.get(&node).map(String::as_str);
        writeln!(text, "{}", line(tree, node, &attr, (&path, &same), hash)?).unwrap();
    }
    Ok(text)
}

/// Every path and its node, the root as `.`. A directory is entered once: those of a hostile tree may go in circles.
pub fn paths(tree: &dyn Tree) -> Result<BTreeMap<Vec<u8>, Node>> {
    let mut all = BTreeMap::new();
    let (mut todo, mut entered) = (vec![(Vec::new(), tree.root())], HashSet::new());
    while let Some((path, node)) = todo.pop() {
        all.insert(if path.is_empty() { b".".to_vec() } else { path.clone() }, node);
        if tree.attr(node)?.kind != Kind::Directory || !entered.insert(node) {
            continue;
        }
        tree.list(node, None, &mut |name, node, _| {
            let parts = [&path[..], name.bytes()];
            todo.push((if path.is_empty() { name.bytes().to_vec() } else { parts.join(&b'/') }, node));
            ControlFlow::Continue(())
        })?;
    }
    Ok(all)
}

/// Hashes a file through small and large reads alike; a hole is read as any other bytes.
fn hash_of(file: &dyn ReadAt) -> Result<String> {
    let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
    let mut bytes = vec![0; 1 << 20];
    loop {
        let got = file.read_at(at, &mut bytes)?;
        if got == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&bytes[..got]);
        at += got as u64;
    }
}

fn line(tree: &dyn Tree, node: Node, attr: &Attr, paths: (&[u8], &[u8]), hash: Option<&str>) -> Result<String> {
    let target = if attr.kind == Kind::Symlink { Some(tree.target(node)?) } else { None };
    let owner = tree.owner(node)?;
    let mut xattrs = tree.xattrs(node)?;
    xattrs.sort();
    let xattrs: Vec<_> = xattrs.iter().map(|(name, value)| format!("{}: {}", json(name), json(&hex(value)))).collect();
    let text = |bytes: Option<&[u8]>| bytes.map_or("null".to_owned(), json);
    let rdev = format!("[{}, {}]", device::major(attr.rdev), device::minor(attr.rdev));
    let fields = [
        ("b3", text(hash.map(str::as_bytes))),
        ("gid", attr.gid.to_string()),
        ("group", text(owner.group.as_deref().map(str::as_bytes))),
        ("mode", attr.mode.to_string()),
        ("mtime", (i128::from(attr.mtime.secs) * 1_000_000_000 + i128::from(attr.mtime.nanos)).to_string()),
        ("nlink", attr.nlink.to_string()),
        ("path", json(paths.0)),
        ("rdev", if attr.kind.is_device() { rdev } else { "null".into() }),
        ("same", json(paths.1)),
        ("size", attr.size.to_string()),
        ("target", text(target.as_deref())),
        ("type", json(kind(attr.kind).as_bytes())),
        ("uid", attr.uid.to_string()),
        ("user", text(owner.user.as_deref().map(str::as_bytes))),
        ("xattrs", format!("{{{}}}", xattrs.join(", "))),
    ];
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    Ok(format!("{{{}}}", fields.join(", ")))
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Fifo => "fifo",
        Kind::CharDevice => "char",
        Kind::Directory => "dir",
        Kind::BlockDevice => "block",
        Kind::File => "file",
        Kind::Symlink => "symlink",
        Kind::Socket => "socket",
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect()
}

/// A JSON string as Python writes it: ASCII, and bytes that are not UTF-8 as lone surrogates.
fn json(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| json_char(&mut out, c));
        chunk.invalid().iter().for_each(|b| write!(out, "\\udc{b:02x}").unwrap());
    }
    out.push('"');
    out
}

fn json_char(out: &mut String, c: char) {
    match c {
        '"' | '\\' => out.extend(['\\', c]),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        ' '..='~' => out.push(c),
        _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(out, "\\u{unit:04x}").unwrap()),
    }
}

/// Fails with the first difference of two listings, rather than with thousands of lines.
pub fn assert_same(left: &str, right: &str, what: &str) {
    if left == right {
        return;
    }
    let differ = left.lines().zip(right.lines()).find(|(l, r)| l != r);
    let counts = (left.lines().count(), right.lines().count());
    match differ {
        Some((l, r)) => panic!("{what}: the listings differ:\n  {l}\n  {r}"),
        None => panic!("{what}: {} and {} names, the shorter listing is a part of the longer", counts.0, counts.1),
    }
}

// ---- the Python side --------------------------------------------------------------------------------------------------

/// A Python that has the modules of `st_ref.py`: `STMOUNT_TEST_PYTHON`, else `venv` in the target directory, else
/// `python3`.
pub fn python() -> PathBuf {
    let found = std::env::var_os("STMOUNT_TEST_PYTHON").map(PathBuf::from).or_else(venv).unwrap_or("python3".into());
    let probe = Command::new(&found).args(["-c", "import zstandard, blake3, cryptography"]).output();
    assert!(
        probe.as_ref().is_ok_and(|out| out.status.success()),
        "{} cannot import zstandard, blake3 and cryptography, which the readers in Python need. Install them:\n  \
         python3 -m venv target/venv && target/venv/bin/pip install zstandard blake3 cryptography\n\
         or name a Python that has them in STMOUNT_TEST_PYTHON.",
        found.display()
    );
    found
}

fn venv() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    program.ancestors().map(|dir| dir.join("venv/bin/python")).find(|python| python.exists())
}

/// Runs a script of this folder.
pub fn run(script: &str, args: &[&Path]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    Command::new(python()).arg("-B").arg(script).args(args).output().unwrap()
}

/// What a script prints; fails when it fails.
pub fn say(script: &str, args: &[&Path]) -> String {
    let out = run(script, args);
    assert!(out.status.success(), "{script} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
