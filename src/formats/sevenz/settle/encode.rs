//! Contents of a block, packed.
//!
//! ```text
//!   contents ─► LZMA2 ─► AES, where the archive is encrypted ─► packed stream, with its sum
//! ```

use super::super::cipher::{Key, Lock, Sealing};
use super::super::database::{Block, Coder, Packed};
use super::super::method;
use super::super::pack::BLOCK;
use crate::error::{Error, Result};
use crate::formats::CIPHER_BLOCK;
use crc32fast::Hasher;
use lzma_rust2::{Lzma2Options, Lzma2Writer};
use std::io::{self, Write};

/// The smallest dictionary that is asked for.
const LEAST: u64 = 64 << 10;

/// How what is new is packed.
pub struct Encoder {
    /// 1 to 9.
    pub level: u8,
    /// Of an archive that is encrypted: a lock with its key. Each stream gets one that is like it.
    pub seal: Option<(Lock, Key)>,
}

/// A block that is being packed.
pub struct Encoding<W: Write> {
    lzma: Lzma2Writer<Sealed<W>>,
    dictionary: u8,
    lock: Option<Lock>,
    len: u64,
}

/// A block that is packed. Where its stream lies, whoever wrote it knows.
pub struct Encoded<W> {
    pub out: W,
    pub block: Block,
    pub packed: Packed,
}

impl Encoder {
    /// Begins a block of so many bytes, or of about so many.
    pub fn begin<W: Write>(&self, out: W, len: u64) -> Result<Encoding<W>> {
        let dictionary = len.clamp(LEAST, BLOCK).next_power_of_two();
        let mut options = Lzma2Options::with_preset(u32::from(self.level.clamp(1, 9)));
        options.lzma_options.dict_size = dictionary as u32;
        let lock = self.seal.as_ref().map(|(lock, _)| lock.renewed()).transpose()?;
        let cipher = lock.as_ref().zip(self.seal.as_ref()).map(|(lock, (_, key))| Sealing::new(lock, key));
        let sealed = Sealed { out, cipher, pending: Vec::new(), plain: 0, packed: 0, sum: Hasher::new() };
        Ok(Encoding {
            lzma: Lzma2Writer::new(sealed, options),
            // Powers of two and what lies halfway are counted, from 4 KiB on.
            dictionary: 2 * (dictionary.trailing_zeros() as u8 - 12),
            lock,
            len: 0,
        })
    }
}

impl<W: Write> Encoding<W> {
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.len += bytes.len() as u64;
        self.lzma.write_all(bytes).map_err(failed)
    }

    pub fn finish(self) -> Result<Encoded<W>> {
        let mut sealed = self.lzma.finish().map_err(failed)?;
        sealed.finish().map_err(failed)?;
        let coder = |method, properties, len| Coder { method, inputs: 1, properties, len };
        let lzma2 = coder(method::LZMA2, vec![self.dictionary], self.len);
        let block = match self.lock {
            None => Block { coders: vec![lzma2], packed: vec![0], ..Block::default() },
            Some(lock) => {
                let aes = coder(method::AES, lock.properties(), sealed.plain);
                Block { coders: vec![lzma2, aes], bonds: vec![(0, 1)], packed: vec![1], ..Block::default() }
            }
        };
        let packed = Packed { at: 0, len: sealed.packed, sum: Some(sealed.sum.finalize()) };
        Ok(Encoded { out: sealed.out, block, packed })
    }
}

fn failed(e: io::Error) -> Error {
    Error::io(e, "cannot write the archive")
}

/// Encrypts what is written, where there is a cipher, and counts it.
struct Sealed<W> {
    out: W,
    cipher: Option<Sealing>,
    /// Less than a block of the cipher.
    pending: Vec<u8>,
    plain: u64,
    packed: u64,
    sum: Hasher,
}

impl<W: Write> Sealed<W> {
    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.sum.update(bytes);
        self.packed += bytes.len() as u64;
        Ok(())
    }

    fn seal(&mut self) -> io::Result<()> {
        let mut rest = std::mem::take(&mut self.pending);
        let blocks = rest.len() / CIPHER_BLOCK * CIPHER_BLOCK;
        if let Some(cipher) = &mut self.cipher {
            cipher.seal(&mut rest[..blocks]);
        }
        self.pass(&rest[..blocks])?;
        rest.drain(..blocks);
        self.pending = rest;
        Ok(())
    }

    /// Fills the last block up.
    fn finish(&mut self) -> io::Result<()> {
        self.pending.resize(self.pending.len().next_multiple_of(CIPHER_BLOCK), 0);
        self.seal()
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.plain += bytes.len() as u64;
        if self.cipher.is_none() {
            self.pass(bytes)?;
        } else {
            self.pending.extend_from_slice(bytes);
            self.seal()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
