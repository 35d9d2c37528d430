//! Stand-in.
pub mod busy;
pub mod fuse;
pub mod options;
pub mod place;
pub mod session;
