//! Runs: members that are decoded one behind the other, each with what the ones before left in the dictionary.
//!
//! ```text
//!   run   │ member │ member, solid │ member, solid │      decoded from its front, once for all who read in it
//! ```
//!
//! A member that is not solid begins a run; stored ones, which are read where they are, interrupt none.

use super::cipher::{Key, Keyring, Opened, Unlocked};
use super::headers::{Codec, List, Member, Sum, UNKNOWN};
use crate::cache::Cache;
use crate::codec::rar29::Unpack29;
use crate::error::{Error, Kind, Result};
use crate::formats::{Cbc, Reading};
use crate::source::streams::{Out, Push, PushInput};
use crate::source::{Joined, ReadAt, Span};
use rars::codec::rar13::Unpack15;
use rars::codec::rar20::Unpack20;
use rars::codec::rar50::{DecodeMode, DecodedChunk, StreamDecodeError, Unpack50Decoder};
use std::io::{self, Read, Write};
use std::sync::Arc;

/// A dictionary that is larger asks for more memory than it is worth.
const MOST_DICTIONARY: u64 = 4 << 30;

/// What the oldest codecs hold of a member: all of it as it is packed, and that of RAR 2 all decoded bytes as well.
const MOST_PACKED: u64 = 1 << 30;
const MOST_V20: u64 = 256 << 20;

/// A solid member of RAR 5 that is decoded as a whole. Else its end costs a copy of the dictionary, which is much where there
/// are many.
const SMALL: u64 = 1 << 20;

/// Tables and buffers of a decoder.
const STATE: usize = 512 << 10;

/// An archive with what is needed to decode it.
pub struct Body {
    pub volumes: Vec<Arc<dyn ReadAt>>,
    pub members: Vec<Member>,
    pub runs: Vec<Run>,
    pub keyring: Keyring,
    pub reading: Arc<Reading>,
    pub cache: Arc<Cache>,
    pub name: String,
    /// The name of a volume that is not there.
    pub missing: Option<String>,
}

/// The members of a run are those between these two that have its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub first: u32,
    pub last: u32,
    /// Members, and the first that is encrypted.
    pub count: u32,
    pub locked: Option<u32>,
    /// Decoded bytes; unknown when that of a member is.
    pub len: u64,
}

/// Puts members into runs.
pub fn runs(list: &mut List) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    // The last run of decoded members. One that is only decrypted does not interrupt it.
    let mut going_on: Option<u32> = None;
    for (number, member) in list.members.iter_mut().enumerate() {
        let number = number as u32;
        if member.size == UNKNOWN && member.codec == Codec::Stored {
            member.size = member.packed;
        }
        if !member.is_streamed() || member.is_empty() && member.packed == 0 {
            continue;
        }
        let is_decoded = member.codec != Codec::Stored;
        let place = match going_on.filter(|_| is_decoded && member.is_solid) {
            Some(place) => place,
            None => {
                runs.push(Run { first: number, ..Run::default() });
                runs.len() as u32 - 1
            }
        };
        if is_decoded {
            going_on = Some(place);
        }
        let run = &mut runs[place as usize];
        (member.run, member.at) = (place, run.len);
        run.last = number;
        run.count += 1;
        run.len = if member.size == UNKNOWN { UNKNOWN } else { run.len.saturating_add(member.size) };
        if run.locked.is_none() && member.is_encrypted() {
            run.locked = Some(number);
        }
    }
    runs
}

impl Body {
    pub fn member(&self, content: u64) -> Result<&Member> {
        let member = usize::try_from(content).ok().and_then(|at| self.members.get(at));
        member.ok_or_else(|| Error::new(Kind::NotFound, "no such entry"))
    }

    /// The members of a run, in their order.
    fn members_of(&self, run: u32) -> impl Iterator<Item = &Member> {
        let Run { first, last, .. } = self.runs[run as usize];
        let members = &self.members[first as usize..=last as usize];
        members.iter().filter(move |member| {
            member.run == run && member.is_streamed() && !(member.is_empty() && member.packed == 0)
        })
    }

    /// Whether a member can be read at all.
    pub fn check_readable(&self, member: &Member) -> Result<()> {
        if member.is_cut {
            let missing = self.missing.as_deref().unwrap_or("of which it is a part");
            return Err(Error::new(Kind::MissingVolume, format!("a part of it is missing: the volume {missing}")));
        }
        if member.codec == Codec::Stored {
            return Ok(());
        }
        if let Codec::Other(version) = member.codec {
            let what = format!("it is compressed by version {version}, which this build cannot undo");
            return Err(Error::new(Kind::Unsupported, what));
        }
        if member.size == UNKNOWN {
            return Err(Error::new(Kind::Unsupported, "nothing tells how long it is"));
        }
        let too_large = |what: &str, len: u64, most: u64| {
            let (len, most) = (len.div_ceil(1 << 20), most >> 20);
            Err(Error::new(Kind::Limit, format!("{what} of {len} MiB; {most} MiB are allowed")))
        };
        match member.codec {
            Codec::V50(_) if member.dictionary > MOST_DICTIONARY => {
                too_large("it needs a dictionary", member.dictionary, MOST_DICTIONARY)
            }
            Codec::V20 if member.size.max(member.packed) > MOST_V20 => {
                too_large("it is a file of RAR 2", member.size.max(member.packed), MOST_V20)
            }
            Codec::V15 if member.packed > MOST_PACKED => too_large("its packed data are", member.packed, MOST_PACKED),
            _ => Ok(()),
        }
    }

    /// The packed bytes of a member.
    fn packed(&self, member: &Member) -> Result<Arc<dyn ReadAt>> {
        let span = |piece: &super::headers::Piece| -> Result<Arc<dyn ReadAt>> {
            let volume = self.volumes.get(piece.volume as usize);
            let volume = volume.ok_or_else(|| Error::new(Kind::MissingVolume, "a volume is missing"))?;
            Ok(Arc::new(Span::new(volume.clone(), piece.at..piece.at.saturating_add(piece.len))))
        };
        match member.pieces.all() {
            [one] => span(one),
            many => Ok(Arc::new(Joined::new(many.iter().map(span).collect::<Result<_>>()?)?)),
        }
    }

    /// The packed bytes, decrypted where that can be done anywhere in them.
    pub fn clear(&self, member: &Member, key: Option<&Key>) -> Result<Arc<dyn ReadAt>> {
        let packed = self.packed(member)?;
        let (Some(sealed), Some(key)) = (&member.sealed, key) else { return Ok(packed) };
        if !sealed.lock.is_random_access() {
            return Ok(packed);
        }
        // The length that counts is known of what is only stored; of the rest there are whole blocks.
        let whole = member.packed / 16 * 16;
        let len = if member.codec == Codec::Stored { member.size.min(whole) } else { whole };
        let cipher = Opened { key: key.clone(), iv: sealed.iv };
        Ok(Arc::new(Cbc::new(packed, cipher, len)?))
    }

    /// What the members of a run hold in memory while they are decoded: of a dictionary, and beside it.
    fn weight(&self, run: u32) -> (u64, u64) {
        let weights = self.members_of(run).take(1000).map(|member| match member.codec {
            Codec::V50(_) => (member.dictionary, 0),
            Codec::V29 => (4 << 20, 0),
            Codec::V20 => (1 << 20, member.packed.saturating_add(member.size)),
            _ => (64 << 10, member.packed),
        });
        weights.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1))).unwrap_or_default()
    }
}

/// A run as a stream, with a key that is to be tried for one of its members.
pub struct Unpacked {
    body: Arc<Body>,
    run: u32,
    weight: (u64, u64),
    tried: Option<Key>,
}

impl Unpacked {
    pub fn new(body: Arc<Body>, run: u32, tried: Option<Key>) -> Self {
        let weight = body.weight(run);
        Self { body, run, weight, tried }
    }

    fn key(&self, member: &Member) -> Result<Option<Key>> {
        let Some(sealed) = &member.sealed else { return Ok(None) };
        if let Some(tried) = self.tried.clone() {
            return Ok(Some(tried));
        }
        let key = self.body.keyring.last(&sealed.lock)?;
        if let Some(key) = key.filter(|key| key.fits(sealed) != Some(false)) {
            return Ok(Some(key));
        }
        let Body { keyring, reading, name, .. } = &*self.body;
        let fitting = |key: &Key| Ok((key.fits(sealed) != Some(false)).then(|| key.clone()));
        keyring.fitting(reading, name, &sealed.lock, fitting).map(Some)
    }
}

impl Push for Unpacked {
    fn push(&self, out: &mut Out) -> Result<()> {
        let mut state = State::None;
        for member in self.body.members_of(self.run) {
            self.body.check_readable(member)?;
            let key = self.key(member)?;
            let mut input = PushInput::new(self.body.clear(member, key.as_ref())?, out.gone())?;
            let sequential = member.sealed.as_ref().filter(|sealed| !sealed.lock.is_random_access());
            let done = match (sequential, &key) {
                (Some(sealed), Some(key)) => {
                    let mut unlocked = Unlocked::new(input, &sealed.lock, key)?;
                    let done = state.decode(member, &mut unlocked, out);
                    input = unlocked.into_inner();
                    done
                }
                _ => state.decode(member, &mut input, out),
            };
            done.map_err(|what| input.blame(what))?;
        }
        Ok(())
    }

    fn size(&self) -> Option<u64> {
        Some(self.body.runs[self.run as usize].len).filter(|len| *len != UNKNOWN)
    }

    fn weight(&self, at: u64) -> usize {
        // A dictionary grows with what is in it.
        let (dictionary, beside) = self.weight;
        usize::try_from(dictionary.min(at).saturating_add(beside)).unwrap_or(usize::MAX).saturating_add(STATE)
    }
}

/// A decoder with what it remembers from the member before.
enum State {
    None,
    V15(Box<Unpack15>),
    V20(Box<Unpack20>),
    V29(Box<Unpack29>),
    V50(Box<Unpack50Decoder>),
}

impl State {
    /// Decodes a member to its end.
    ///
    /// # Errors
    /// What the codec says of it.
    fn decode(&mut self, member: &Member, input: &mut impl Read, out: &mut Out) -> Result<(), String> {
        let size = usize::try_from(member.size).map_err(|_| "it is too large".to_owned())?;
        // A member that is not solid, or of another version than the one before, begins anew.
        let goes_on = member.is_solid && self.is_for(member.codec);
        if !goes_on {
            *self = Self::new(member.codec);
        }
        let failed = |e: rars::codec::Error| e.to_string();
        match self {
            Self::None => {
                let copied = io::copy(&mut input.take(member.size), out).map_err(|e| e.to_string())?;
                if copied == member.size { Ok(()) } else { Err("the data end too early".into()) }
            }
            Self::V15(codec) => codec.decode_member_from_reader(input, size, goes_on, out).map_err(failed),
            Self::V20(codec) => codec.decode_member_from_reader(input, size, out).map_err(failed),
            Self::V29(codec) => codec.decode_member(input, member.size, goes_on, out).map_err(|e| e.to_string()),
            Self::V50(codec) => unpack_50(codec, member, size, goes_on, input, out),
        }
    }

    fn new(codec: Codec) -> Self {
        match codec {
            Codec::V15 => Self::V15(Box::new(Unpack15::new())),
            Codec::V20 => Self::V20(Box::new(Unpack20::new())),
            Codec::V29 => Self::V29(Box::default()),
            Codec::V50(_) => Self::V50(Box::new(Unpack50Decoder::new())),
            Codec::Stored | Codec::Other(_) => Self::None,
        }
    }

    fn is_for(&self, codec: Codec) -> bool {
        matches!(
            (self, codec),
            (Self::V15(_), Codec::V15)
                | (Self::V20(_), Codec::V20)
                | (Self::V29(_), Codec::V29)
                | (Self::V50(_), Codec::V50(_))
        )
    }
}

fn unpack_50(
    codec: &mut Unpack50Decoder,
    member: &Member,
    size: usize,
    goes_on: bool,
    input: &mut impl Read,
    out: &mut Out,
) -> Result<(), String> {
    let version = if member.codec == Codec::V50(0) { 0 } else { 1 };
    let dictionary = usize::try_from(member.dictionary).unwrap_or(usize::MAX);
    if goes_on && member.size <= SMALL {
        let mode = DecodeMode::Lz;
        let decoded = codec.decode_member_from_reader_with_dictionary(input, version, size, dictionary, goes_on, mode);
        return decoded.map_err(|e| e.to_string()).and_then(|all| out.write_all(&all).map_err(|e| e.to_string()));
    }
    let sink = |chunk: DecodedChunk<'_>| match chunk {
        DecodedChunk::Bytes(bytes) => out.write_all(bytes),
        DecodedChunk::Repeated { byte, len } => io::copy(&mut io::repeat(byte).take(len as u64), out).map(drop),
    };
    codec.decode_member_from_reader_with_dictionary_to_sink(input, version, size, dictionary, goes_on, sink).map_err(
        |e| match e {
            StreamDecodeError::Decode(e) => e.to_string(),
            StreamDecodeError::FilteredMember => "a filter is larger than it may be".into(),
            StreamDecodeError::Sink(e) => e.to_string(),
        },
    )
}

/// Whether a sum says anything.
pub fn is_checked(member: &Member) -> bool {
    member.sum != Sum::None
}
