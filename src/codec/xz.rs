//! LZMA2 in an xz stream without a check of its own (the container has better ones). Smaller than zstd on raw textures and
//! samples, and five to ten times slower to decode: for archives that are packed to be small.

use super::damaged;
use crate::error::{Error, Kind, Result};
use liblzma::stream::{Action, Check, Filters, LzmaOptions, Status, Stream};

/// Memory that decoding one stream may take: the dictionary of the largest segment, and the decoder's own tables.
const MEMORY_LIMIT: u64 = (64 << 20) + (1 << 20);

/// How to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// 0 to 9, as of xz.
    pub preset: u32,
    /// Literal context bits, literal position bits, position bits; `lc + lp` at most 4.
    pub lc_lp_pb: (u32, u32, u32),
}

/// Encodes a buffer as one stream whose dictionary is no larger than the buffer.
pub fn encode(bytes: &[u8], effort: Effort) -> Result<Vec<u8>> {
    let failed = |e| Error::new(Kind::System, "xz").caused_by(std::io::Error::from(e));
    let mut options = LzmaOptions::new_preset(effort.preset).map_err(failed)?;
    let (lc, lp, pb) = effort.lc_lp_pb;
    options.dict_size(bytes.len().next_power_of_two().max(4096) as u32);
    options.literal_context_bits(lc).literal_position_bits(lp).position_bits(pb);
    let mut stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::None).map_err(failed)?;
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 16 + 1024);
    match stream.process_vec(bytes, &mut out, Action::Finish) {
        Ok(Status::StreamEnd) => Ok(out),
        Ok(_) => Err(Error::new(Kind::System, "xz: the output is larger than foreseen")),
        Err(e) => Err(failed(e)),
    }
}

/// Decodes one stream that must give exactly `len` bytes.
pub fn decode(bytes: &[u8], len: usize) -> Result<Vec<u8>> {
    let failed = |e| damaged("xz").caused_by(std::io::Error::from(e));
    let mut stream = Stream::new_stream_decoder(MEMORY_LIMIT, 0).map_err(failed)?;
    // One byte more than expected, so that a stream that is too long shows itself.
    let mut out = Vec::with_capacity(len + 1);
    let status = stream.process_vec(bytes, &mut out, Action::Finish).map_err(failed)?;
    if status == Status::StreamEnd && out.len() == len {
        return Ok(out);
    }
    Err(damaged(format!("{} bytes came out of xz where {len} were expected", out.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_wrong_lengths_do_not() {
        let bytes: Vec<u8> = (0..200_000u32).flat_map(|n| (n.wrapping_mul(n) >> 5).to_le_bytes()).collect();
        let packed = encode(&bytes, Effort { preset: 4, lc_lp_pb: (0, 2, 2) }).unwrap();
        assert!(packed.len() < bytes.len());
        assert_eq!(decode(&packed, bytes.len()).unwrap(), bytes);
        assert!(decode(&packed, bytes.len() - 1).is_err() && decode(&packed, bytes.len() + 1).is_err());
        assert!(decode(&packed[..packed.len() / 2], bytes.len()).is_err());
    }
}
