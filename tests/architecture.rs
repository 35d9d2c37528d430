//! The house rules, tested: nothing imports upward or sideways, nothing prints outside the command line, and what is not
//! allowed anywhere is nowhere.
//!
//! Inside one crate the compiler permits every import. So this test reads the sources: comments and strings are taken
//! out, then every path that begins with `crate::` or with `super::` is compared with the table of floors.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors from `src/lib.rs`. A room may use what stands on a lower floor, and of its own floor what [`DOORS`] names.
const FLOORS: &[(&str, u8)] = &[
    ("error", 0),
    ("key", 0),
    ("cache", 0),
    ("pool", 0),
    ("codec", 0),
    ("source", 1),
    ("tree", 1),
    ("formats", 2),
    ("remote", 2),
    ("vfs", 3),
    ("open", 3),
    ("mount", 4),
    ("serve", 4),
    ("jobs", 4),
    ("transfer", 4),
    ("browse", 4),
    ("cli", 5),
    ("bin", 6),
];

/// Who may know whom on one floor: the stones use each other's error, and the two nouns know that trees hold bytes.
const DOORS: &[(&str, &str)] =
    &[("cache", "error"), ("pool", "error"), ("codec", "error"), ("key", "error"), ("tree", "source")];

/// Rooms inside `formats`, none of which knows another; `mod.rs` knows them all.
const SUITES: &[&str] = &["formats", "jobs", "remote", "serve"];

/// Files that may hold `unsafe`, each with its reason.
const UNSAFE: &[&str] = &[
    "cli/heap.rs",  // settings of the allocator of the C library
    "key/guard.rs", // keeps a key from being swapped out
];

const PRINTING: &[&str] = &["println!", "eprintln!", "print!", "eprint!", "dbg!"];
const UNFINISHED: &[&str] = &["todo!", "unimplemented!"];

#[test]
fn every_room_keeps_to_its_floor() {
    assert_no_fault(|file, code| imports(file, code).into_iter().filter_map(|path| misplaced(file, &path)).collect());
}

#[test]
fn unsafe_is_where_it_is_allowed() {
    assert_no_fault(|file, code| if UNSAFE.contains(&file) { Vec::new() } else { words(code, &["unsafe"]) });
}

#[test]
fn only_the_command_line_prints() {
    let may = |file: &str| file.starts_with("cli/") || file.starts_with("bin/");
    assert_no_fault(|file, code| if may(file) { Vec::new() } else { words(code, PRINTING) });
}

#[test]
fn the_core_is_blocking_and_finished() {
    // Links have a runtime of their own, on which they wait for many answers at once.
    assert_no_fault(|file, code| if file.starts_with("remote/") { Vec::new() } else { words(code, &["async"]) });
    assert_no_fault(|_, code| words(code, UNFINISHED));
}

#[test]
fn only_the_mount_knows_fuser() {
    assert_no_fault(
        |file, code| if file.starts_with("mount/") { Vec::new() } else { words(code, &["fuser::", "fuser"]) },
    );
}

#[test]
fn the_table_of_floors_names_every_room() {
    let known: BTreeSet<_> = FLOORS.iter().map(|(room, _)| *room).collect();
    let rooms: BTreeSet<_> = sources().into_iter().map(|(file, _)| room(&file).to_owned()).collect();
    let unknown: Vec<_> = rooms.iter().filter(|r| !known.contains(r.as_str()) && *r != "lib").collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:?}");
}

#[test]
fn a_fault_is_found_and_a_mention_is_none() {
    let bad = "use crate::mount::Options;\nfn f() { crate::vfs::f(); }\nuse crate::{error, formats::st};";
    assert_eq!(faults_of("vfs/nodes.rs", "use crate::mount::Options;").len(), 1);
    assert_eq!(faults_of("tree/mod.rs", bad).len(), 3);
    assert_eq!(faults_of("cli/mod.rs", bad).len(), 0);
    // Sideways: neighbours on a floor, and rooms inside the formats.
    assert_eq!(faults_of("vfs/mod.rs", "use crate::open::open;").len(), 1);
    assert_eq!(faults_of("formats/st/pack.rs", "use crate::formats::folder::Folder;").len(), 1);
    assert_eq!(faults_of("formats/st/pack.rs", "use super::super::folder::Folder;").len(), 1);
    assert_eq!(faults_of("formats/st/mod.rs", "use super::folder::Folder;").len(), 1);
    assert_eq!(faults_of("formats/st/mod.rs", "use super::{Access, folder};").len(), 1);
    assert_eq!(faults_of("source/file.rs", "use crate::tree::Tree;").len(), 1);
    // What is allowed.
    assert_eq!(faults_of("formats/mod.rs", "pub use crate::formats::st::St; use crate::cache::Cache;").len(), 0);
    assert_eq!(faults_of("formats/st/pack.rs", "use crate::formats::st::row; use super::super::Watch;").len(), 0);
    assert_eq!(faults_of("tree/mod.rs", "use crate::source::ReadAt; use super::error;").len(), 0);
    // Comments and strings are not code.
    for mention in [
        "// use crate::mount::x\n",
        "/* crate::cli /* nested */ */",
        "\"crate::cli\"",
        "r#\"crate::cli\"#",
        "//! [`crate::cli`]",
    ] {
        assert_eq!(faults_of("tree/mod.rs", mention), Vec::<String>::new(), "{mention}");
    }
    assert_eq!(words(&code_of("unsafe { }"), &["unsafe"]).len(), 1);
    assert_eq!(
        words(&code_of("#![deny(unsafe_code)] // unsafe\nlet c = '\"'; let s = \"unsafe\";"), &["unsafe"]).len(),
        0
    );
    assert_eq!(words(&code_of("fn f<'a>(x: &'a str) { println!(\"x\") }"), PRINTING).len(), 1);
}

fn faults_of(file: &str, text: &str) -> Vec<String> {
    imports(file, &code_of(text)).into_iter().filter_map(|path| misplaced(file, &path)).collect()
}

fn assert_no_fault(faults: impl Fn(&str, &str) -> Vec<String>) {
    let all = sources();
    assert!(all.len() > 20, "the sources were not found");
    let found: Vec<String> = all
        .iter()
        .flat_map(|(file, code)| faults(file, code).into_iter().map(move |f| format!("src/{file}: {f}")))
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Every file below `src/`, by its path there, without comments and strings.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push((name, code_of(&fs::read_to_string(path).unwrap())));
            }
        }
    }
    found
}

/// The modules that a file is in: `formats/st/tree.rs` is `formats::st::tree`, `formats/mod.rs` is `formats`.
fn module(file: &str) -> Vec<&str> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    stem.strip_suffix("/mod").unwrap_or(stem).split('/').filter(|part| *part != "lib").collect()
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// What is wrong with a file that names this path, which begins below the crate.
fn misplaced(file: &str, path: &[String]) -> Option<String> {
    let (own, other) = (room(file), path.first()?.as_str());
    let shown = path.join("::");
    let (Some(from), Some(to)) = (floor(own), floor(other)) else { return None };
    if own == other {
        return sideways_inside(file, path).then(|| format!("{shown} is a room beside"));
    }
    if to > from {
        return Some(format!("{shown} is on a floor above"));
    }
    (to == from && !DOORS.contains(&(own, other))).then(|| format!("{shown} is a neighbour on the same floor"))
}

/// Inside `formats` and `jobs`, a room does not import another one.
fn sideways_inside(file: &str, path: &[String]) -> bool {
    let own = module(file);
    if !SUITES.contains(&own[0]) || own.len() < 2 {
        return false;
    }
    let Some(other) = path.get(1) else { return false };
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(own[0]);
    let is_room = base.join(other).is_dir() || base.join(format!("{other}.rs")).is_file();
    is_room && *other != own[1]
}

/// Every path of the code that begins with `crate::` or `super::`, from the crate on. `crate::{a, b::c}` gives two.
fn imports(file: &str, code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in starts(code, "crate::") {
        paths(&code[start + "crate::".len()..], &[], &mut found);
    }
    for start in starts(code, "super::") {
        let mut base: Vec<String> = module(file).iter().map(|s| s.to_string()).collect();
        let mut rest = &code[start..];
        while let Some(tail) = rest.strip_prefix("super::") {
            base.pop();
            rest = tail;
        }
        paths(rest, &base, &mut found);
    }
    found
}

/// Where a path begins: not behind a letter, and `super::` not behind another one.
fn starts(code: &str, word: &str) -> Vec<usize> {
    let fits = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    code.match_indices(word).map(|(at, _)| at).filter(|at| fits(*at)).collect()
}

/// Follows a path from its first name, into braces as well.
fn paths(text: &str, base: &[String], found: &mut Vec<Vec<String>>) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        for part in parts(group) {
            paths(part, base, found);
        }
        return;
    }
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let path: Vec<String> = base.iter().cloned().chain((!name.is_empty()).then(|| name.clone())).collect();
    match text[name.len()..].trim_start().strip_prefix("::") {
        Some(rest) if !name.is_empty() => paths(rest, &path, found),
        _ => found.push(path),
    }
}

/// The parts of a group up to its closing brace, parted at the commas outside of inner groups.
fn parts(group: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&group[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    found.retain(|part| !part.trim().is_empty());
    found
}

/// Lines that hold one of these words, not as a part of another one.
fn words(code: &str, wanted: &[&str]) -> Vec<String> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let holds = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let open = word.ends_with(in_word) && line[at + word.len()..].starts_with(in_word);
            !line[..at].ends_with(in_word) && !open
        })
    };
    let numbered = code.lines().enumerate();
    numbered
        .filter(|(_, line)| wanted.iter().any(|w| holds(line, w)))
        .map(|(n, line)| format!("{}: {}", n + 1, line.trim()))
        .collect()
}

/// A source without its comments, and with empty strings and characters. Lines stay where they are.
fn code_of(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let before_is_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest),
            '"' => string(rest),
            'r' | 'b' if !before_is_word => raw_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            out.push(' ');
            rest = &rest[skipped..];
        }
    }
    out
}

/// The length of a block comment, which may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`; 0 if it is none of these.
fn raw_string(text: &str) -> usize {
    let prefix = if text.starts_with("br") { 2 } else { 1 };
    let tail = &text[prefix..];
    if !text[..prefix].ends_with('r') {
        return 0;
    }
    let hashes = tail.len() - tail.trim_start_matches('#').len();
    if !tail[hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = prefix + hashes + 1;
    text[body..].find(&end).map_or(text.len(), |at| body + at + end.len())
}

/// `'x'`, `'\n'`, `'\u{1}'`; a lifetime is none.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 3),
        Some((at, c)) if text[at + c.len_utf8()..].starts_with('\'') => at + c.len_utf8() + 1,
        _ => 0,
    }
}
