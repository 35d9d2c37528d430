//! Stand-in.
pub mod unpack;
