pub mod dress;
pub mod memtree;
