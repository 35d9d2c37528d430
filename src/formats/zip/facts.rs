//! What `info` tells of an archive.

use super::end::Found;
use super::layout::method_name;
use super::list::Entries;
use super::volumes::Set;

/// Characters of a comment that are shown.
const COMMENT: usize = 1000;

pub fn facts(set: &Set, found: Option<&Found>, entries: &Entries) -> Vec<(&'static str, String)> {
    let mut facts = vec![("entries", entries.members.len().to_string())];
    let counted = |names: Vec<String>| names.join(", ");
    let methods = entries.methods.iter().map(|(method, count)| format!("{} {count}", method_name(*method))).collect();
    facts.push(("methods", counted(methods)));
    if !entries.ciphers.is_empty() {
        let ciphers = entries.ciphers.iter().map(|(name, count)| format!("{name} {count}")).collect();
        facts.push(("encryption", counted(ciphers)));
    }
    facts.extend(entries.charset.map(|charset| ("names in", charset.to_owned())));
    if set.files > 1 {
        facts.push(("volumes", set.files.to_string()));
    }
    if let Some(found) = found {
        if found.ending.is_zip64 {
            facts.push(("zip64", "yes".into()));
        }
        if let Some(place) = found.place.filter(|place| place.base > 0) {
            facts.push(("in front", format!("{} bytes", place.base)));
        }
        if !found.ending.comment.is_empty() {
            let comment = String::from_utf8_lossy(&found.ending.comment);
            facts.push(("comment", comment.chars().take(COMMENT).collect()));
        }
    }
    facts.push(("random access", cost(entries)));
    facts
}

/// What a jump into a file costs, for each method that there is.
fn cost(entries: &Entries) -> String {
    let mut told: Vec<&str> = Vec::new();
    for method in entries.methods.keys() {
        let cost = match method {
            0 => "stored: a jump costs nothing",
            8 | 9 => "deflate: a jump decodes at most about 1 MiB, once all before it was read",
            12 => "bzip2: a jump decodes at most about 1 MiB, once all before it was read",
            20 | 93 => "zstd: a jump decodes the file from its front, or from the nearest frame",
            95 => "xz: a jump decodes a block of the file",
            _ => "others: a jump decodes the file from its front, or from where somebody has come to",
        };
        if !told.contains(&cost) {
            told.push(cost);
        }
    }
    told.join("; ")
}
