//! Compressed streams, made by the programs that people make them with.

#[path = "../common/dice.rs"]
mod dice;

mod battery;
mod deflate;
mod frames;
mod kinds;
mod lzma;
mod others;
