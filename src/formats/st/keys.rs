//! placeholder until the real one is merged
use crate::error::Result;
use crate::key::{Keys, Master};
pub const PAYLOAD: u64 = 128 << 10;
#[derive(Clone)]
pub struct KeySet {
    pub uid: [u8; 16],
    pub ciphers: Vec<u16>,
    pub padded: bool,
}
impl KeySet {
    pub fn parse(payload: &[u8]) -> Result<Self> {
        let mut uid = [0; 16];
        uid.copy_from_slice(&payload[..16]);
        Ok(Self { uid, ciphers: payload[17..].iter().map(|b| u16::from(*b)).collect(), padded: payload[16] == 1 })
    }
    pub fn is_of(&self, _: &Master) -> bool {
        true
    }
    pub fn unlock(&self, _keys: &dyn Keys, _what: &str) -> Result<Master> {
        Ok(Master::new(zeroize::Zeroizing::new([7; 32])))
    }
    pub fn encode(&self, _: &Master) -> Result<Vec<u8>> {
        Ok([&self.uid[..], &[u8::from(self.padded)], &self.ciphers.iter().map(|c| *c as u8).collect::<Vec<_>>()]
            .concat())
    }
}
