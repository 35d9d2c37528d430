pub mod memtree;
