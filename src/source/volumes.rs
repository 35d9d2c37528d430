//! The volumes of one file, of which some may be missing: where they are, the file has holes.
//!
//! ```text
//!   x.001   x.002   ·····   x.004   x.005          all but the last have one length
//!   ██████  ██████          ██████  ███
//!                   hole: reading it is an error that names x.003; writing to it makes x.003
//! ```

use super::{ReadAt, Store};
use crate::error::{Error, Kind, Result};
use crate::pool::lock;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Makes a volume that is missing, by its place.
pub type Make<T> = Box<dyn Fn(usize) -> Result<Arc<T>> + Send + Sync>;

/// A volume: its name, and what it is, if it is there.
pub type Volume<T> = (String, Option<Arc<T>>);

/// One file in volumes.
pub struct VolumeSet<T: ?Sized> {
    size: u64,
    volumes: Vec<Volume<T>>,
    lens: Vec<u64>,
    make: Option<Make<T>>,
    /// What was made meanwhile, by its place. What is not written of it yet reads as zeros.
    made: Mutex<BTreeMap<usize, Arc<T>>>,
}

impl<T: ReadAt + ?Sized> VolumeSet<T> {
    /// Volumes of which all but the last have this length. The last of those that are given is there.
    pub fn new(size: u64, volumes: Vec<Volume<T>>, make: Option<Make<T>>) -> Result<Self> {
        let len = |(_, volume): &Volume<T>| volume.as_ref().map_or(Ok(0), |volume| volume.len());
        let lens = volumes.iter().map(len).collect::<Result<Vec<u64>>>()?;
        let all = size.checked_mul(lens.len() as u64);
        if size == 0 || all.is_none_or(|all| all > 1 << 62) {
            return Err(Error::new(Kind::Limit, "the volumes are larger than a file can be"));
        }
        Ok(Self { size, volumes, lens, make, made: Mutex::default() })
    }

    /// What cannot be read: volumes that are missing, and the ends of those that are too short.
    pub fn holes(&self) -> Vec<Range<u64>> {
        let ends = self.lens.iter().enumerate().take(self.lens.len().saturating_sub(1));
        let holes = ends.map(|(n, len)| n as u64 * self.size + len.min(&self.size)..(n as u64 + 1) * self.size);
        holes.filter(|hole| !hole.is_empty()).collect()
    }

    /// What was made, by its place.
    pub fn made(&self) -> BTreeMap<usize, Arc<T>> {
        lock(&self.made).clone()
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The volumes that a range touches, by their places, each with the range in it.
    fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (usize, Range<u64>)> + use<T> {
        let size = self.size;
        let first = range.start / size;
        let touched = (first..).take_while(move |n| n * size < range.end);
        touched
            .map(move |n| (n as usize, range.start.max(n * size) - n * size..range.end.min((n + 1) * size) - n * size))
    }

    fn there(&self, n: usize) -> Result<&Arc<T>> {
        let (name, volume) = self.volumes.get(n).map_or(("behind the last", None), |(name, v)| (name, v.as_ref()));
        volume.ok_or_else(|| Error::new(Kind::MissingVolume, format!("the volume {name} is missing")))
    }

    fn to_write(&self, n: usize) -> Result<Arc<T>> {
        if let Some((_, Some(volume))) = self.volumes.get(n) {
            return Ok(volume.clone());
        }
        let mut made = lock(&self.made);
        if let Some(volume) = made.get(&n) {
            return Ok(volume.clone());
        }
        let make = self.make.as_ref().ok_or_else(|| Error::new(Kind::ReadOnly, "no volume can be made"))?;
        let volume = make(n)?;
        made.insert(n, volume.clone());
        Ok(volume)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for VolumeSet<T> {
    fn len(&self) -> Result<u64> {
        let before = self.lens.len().saturating_sub(1) as u64;
        let end = before * self.size + self.lens.last().copied().unwrap_or(0);
        match lock(&self.made).last_key_value() {
            Some((n, volume)) => Ok(end.max(*n as u64 * self.size + volume.len()?)),
            None => Ok(end),
        }
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        let end = self.len()?.min(at.saturating_add(into.len() as u64));
        if at >= end {
            return Ok(0);
        }
        let mut done = 0;
        for (n, range) in self.pieces(at..end) {
            let part = &mut into[done..done + (range.end - range.start) as usize];
            let made = lock(&self.made).get(&n).cloned();
            match made {
                Some(made) => read_or_zeros(&*made, range.start, part)?,
                None => self.there(n)?.read_exact_at(range.start, part)?,
            }
            done += part.len();
        }
        Ok(done)
    }

    fn is_changed(&self) -> bool {
        self.volumes.iter().any(|(_, volume)| volume.as_ref().is_some_and(|volume| volume.is_changed()))
    }

    fn will_read(&self, range: Range<u64>) {
        let end = self.len().unwrap_or(0).min(range.end).max(range.start);
        let there = self
            .pieces(range.start..end)
            .filter(|(_, range)| !range.is_empty())
            .filter_map(|(n, range)| Some((self.there(n).ok()?, range)));
        there.for_each(|(volume, range)| volume.will_read(range));
    }
}

fn read_or_zeros<T: ReadAt + ?Sized>(volume: &T, at: u64, into: &mut [u8]) -> Result<()> {
    let there = volume.len()?.saturating_sub(at).min(into.len() as u64) as usize;
    into[there..].fill(0);
    volume.read_exact_at(at, &mut into[..there])
}

impl Store for VolumeSet<dyn Store> {
    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        for (n, range) in self.pieces(at..at + bytes.len() as u64) {
            let len = (range.end - range.start) as usize;
            self.to_write(n)?.write_at(range.start, &bytes[done..done + len])?;
            done += len;
        }
        Ok(())
    }

    fn set_len(&self, _: u64) -> Result<()> {
        Err(Error::new(Kind::ReadOnly, "a file in volumes is not made shorter or longer"))
    }

    fn sync(&self) -> Result<()> {
        let made = self.made();
        let there = self.volumes.iter().filter_map(|(_, volume)| volume.as_ref());
        there.chain(made.values()).try_for_each(|volume| volume.sync())
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one range is meant")]
mod tests {
    use super::*;
    use crate::source::Memory;

    fn set(texts: &[Option<&str>]) -> VolumeSet<dyn Store> {
        let memory = |text: &str| Arc::new(Memory::new(text.into())) as Arc<dyn Store>;
        let volumes = texts.iter().zip(1..).map(|(text, n)| (format!("x.{n:03}"), text.map(memory))).collect();
        let make: Make<dyn Store> = Box::new(|_| Ok(Arc::new(Memory::default())));
        VolumeSet::new(3, volumes, Some(make)).unwrap()
    }

    #[test]
    fn a_hole_is_an_error_that_names_its_volume_and_the_rest_is_read() {
        let set = set(&[Some("abc"), None, Some("gh")]);
        assert_eq!((set.len().unwrap(), set.holes()), (8, vec![3..6]));
        let mut into = [0; 3];
        set.read_exact_at(0, &mut into).unwrap();
        assert_eq!(&into, b"abc");
        assert_eq!(set.read_at(6, &mut into).unwrap(), 2);
        assert_eq!((set.read_at(8, &mut into).unwrap(), set.read_at(u64::MAX, &mut into).unwrap()), (0, 0));
        let e = set.read_at(1, &mut into).unwrap_err();
        assert_eq!((e.kind(), e.to_string().contains("x.002")), (Kind::MissingVolume, true));
    }

    #[test]
    fn a_volume_that_is_too_short_has_a_hole_at_its_end() {
        let set = set(&[Some("a"), Some("def"), Some("g")]);
        assert_eq!(set.holes(), [1..3]);
        assert!(set.read_at(0, &mut [0; 3]).is_err());
    }

    #[test]
    fn what_is_written_to_a_hole_or_behind_the_end_makes_volumes() {
        let set = set(&[Some("abc"), None, Some("ghi")]);
        set.write_at(2, b"CDEFGHIJK").unwrap();
        let read = |volume: &Arc<dyn Store>| {
            let mut bytes = vec![0; volume.len().unwrap() as usize];
            volume.read_exact_at(0, &mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let made: Vec<_> = set.made().iter().map(|(n, volume)| (*n, read(volume))).collect();
        assert_eq!(made, [(1, "DEF".to_owned()), (3, "JK".to_owned())]);
        let mut into = [0; 8];
        assert_eq!((set.len().unwrap(), set.read_at(3, &mut into).unwrap()), (11, 8));
        assert_eq!(&into, b"DEFGHIJK");
        let there: Vec<_> = set.volumes.iter().filter_map(|(_, volume)| volume.as_ref()).map(read).collect();
        assert_eq!(there, ["abC", "GHI"]);
    }
}
