//! What was learnt of an archive, as it is kept for the next time. It is taken from a file that anybody may have changed, so
//! nothing in it is taken on trust.

use super::contents::Member;
use super::sparse::Map;
use crate::formats::Reading;
use crate::tree::Tables;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Changes with what stands in it, and with how archives are understood.
const VERSION: u32 = 2;

/// Archives below this size are gone through at once.
const WORTH: u64 = 16 << 20;

/// Bytes of an index when it is unpacked.
const MAX: u64 = 4 << 30;

const LEVEL: i32 = 3;

/// All that is known of an archive.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    pub tables: Tables,
    pub members: Vec<Member>,
    pub maps: Vec<Map>,
    pub notes: Vec<String>,
    /// By their numbers in [`fact`].
    pub facts: Vec<(u8, String)>,
    /// Whether nothing is wrong with it.
    pub is_clear: bool,
    /// Where its entries end, and the zeros begin.
    pub body: u64,
    /// Where the archive ends.
    pub end: u64,
}

/// What `info` tells.
pub mod fact {
    pub const ENTRIES: u8 = 0;
    pub const CHARSET: u8 = 1;
    pub const LABEL: u8 = 2;
    pub const RANDOM: u8 = 3;
}

/// How a fact is called.
pub fn fact(number: u8) -> &'static str {
    match number {
        fact::ENTRIES => "entries",
        fact::CHARSET => "names in",
        fact::LABEL => "label",
        _ => "random access",
    }
}

/// Under which name it is kept: what was read in another way is something else.
pub fn key(reading: &Reading) -> String {
    let charset = reading.encoding.as_deref().unwrap_or_default();
    format!("tar {VERSION} {} {} {} {charset}", u8::from(reading.strict), u8::from(reading.force), reading.max_entries)
}

impl Saved {
    pub fn is_worth_keeping(&self) -> bool {
        self.end >= WORTH
    }

    pub fn write(&self) -> Option<Vec<u8>> {
        let plain = postcard::to_allocvec(self).ok()?;
        zstd::bulk::compress(&plain, LEVEL).ok()
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut plain = Vec::new();
        zstd::stream::read::Decoder::new(bytes).ok()?.take(MAX).read_to_end(&mut plain).ok()?;
        let saved: Self = postcard::from_bytes(&plain).ok()?;
        let is_sound = |member: &Member| match (member.map as usize).checked_sub(1) {
            Some(at) => saved.maps.get(at).is_some_and(|map| map.is_sound(member.len)),
            None => true,
        };
        let fits = saved.members.iter().all(|m| is_sound(m) && m.at.checked_add(m.len).is_some());
        (fits && saved.tables.are_sound()).then_some(saved)
    }
}
