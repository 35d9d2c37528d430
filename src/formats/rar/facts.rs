//! What `info` tells of an archive.

use super::find::{Start, Version};
use super::headers::{Codec, Main};
use super::unpack::Body;
use std::collections::BTreeSet;

pub fn facts(body: &Body, main: &Main, start: &Start, charset: Option<&str>) -> Vec<(&'static str, String)> {
    let codecs: BTreeSet<Codec> = body.members.iter().filter(|m| !m.is_empty()).map(|m| m.codec).collect();
    let mut facts = vec![("entries", body.members.len().to_string()), ("version", version(start, &codecs).to_owned())];
    facts.push(("methods", codecs.iter().map(|codec| codec.name()).collect::<Vec<_>>().join(", ")));
    facts.push(("solid groups", body.runs.iter().filter(|run| run.count > 1).count().to_string()));
    let locks: BTreeSet<_> = body.members.iter().filter_map(|m| m.sealed.as_ref()).map(|s| s.lock.name()).collect();
    let mut locks: Vec<_> = locks.into_iter().collect();
    if main.is_locked {
        locks.push("the list of entries too");
    }
    if !locks.is_empty() {
        facts.push(("encryption", locks.join(", ")));
    }
    facts.extend(charset.map(|charset| ("names in", charset.to_owned())));
    if body.volumes.len() > 1 || main.is_volume {
        facts.push(("volumes", body.volumes.len().to_string()));
    }
    if main.has_recovery {
        facts.push(("recovery record", "yes".into()));
    }
    if start.at > 0 {
        facts.push(("in front", format!("{} bytes", start.at)));
    }
    facts.push(("random access", cost(body)));
    facts
}

fn version(start: &Start, codecs: &BTreeSet<Codec>) -> &'static str {
    match start.version {
        Version::Ancient => "RAR 1.4",
        Version::Old => "RAR 4",
        Version::New if codecs.contains(&Codec::V50(1)) => "RAR 7",
        Version::New => "RAR 5",
    }
}

fn cost(body: &Body) -> String {
    let Some(largest) = body.runs.iter().max_by_key(|run| run.len) else {
        return "stored: a jump costs nothing".into();
    };
    let mib = largest.len.div_ceil(1 << 20);
    let what = if largest.count > 1 { "solid" } else { "each file by itself" };
    let of = if largest.count > 1 { "the largest group" } else { "the largest file" };
    let advice = if mib > 64 { "; `stmount convert` to .st makes it instant" } else { "" };
    format!("{what}: a jump decodes up to {mib} MiB, {of}, what was decoded lately excepted{advice}")
}
