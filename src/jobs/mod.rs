//! Floor 4: one piece of work on a tree, from beginning to end, told to a [`Watch`](crate::formats::Watch).

pub mod fetch;
pub mod overlay;
pub mod unpack;
pub mod update;
pub mod warm;
