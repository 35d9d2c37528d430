//! `stmount`: archives as ordinary folders.
//!
//! Two nouns carry everything. [`source::ReadAt`] is whatever has bytes, [`tree::Tree`] whatever has names. A format turns
//! bytes into a tree (*open*) and a tree into bytes (*pack*); the file system shows a tree to a kernel.
//!
//! ```text
//!  5  doors for people    bin/stmount.rs   cli/           arguments -> plain options; the only place that prints
//!  4  uses                mount/           jobs/          a kernel, or one piece of work, on a tree
//!  3  the file system     vfs/             open/          nodes and handles; location -> Volume
//!  2  suppliers           formats/{st,zip,folder,..}      bytes -> tree, tree -> bytes
//!                         remote/         address -> bytes, over a link
//!  1  the two nouns       source/          tree/          ReadAt, Store; Tree, Attr, Name
//!  0  stones              error  key  cache  pool  codec/ no I/O, no names, no clock
//! ```
//!
//! Nothing imports upward, and the rooms of one floor do not know each other; `tests/architecture.rs` keeps it so.
//!
//! A read goes down five steps and comes back once:
//!
//! ```text
//!  kernel READ(ino, 128 KiB at 7 MiB)
//!   mount/fuse    decode the request, call, reply           knows: fuser
//!   vfs           handle -> its ReadAt; paces read-ahead    knows: handles
//!   formats/st    extent -> segment by binary search        knows: its tables
//!   cache         hit -> a slice; miss -> one loader        knows: keys and bytes
//!   source        pread                                     knows: a file
//! ```
//!
//! A change is made in memory, committed all at once, and only then, perhaps, brought into an archive:
//!
//! ```text
//!  kernel WRITE, RENAME ...
//!   vfs/live      changes over what is committed            fsync, or five seconds, and they go to the Writer
//!   formats/st    a log in the container itself             that is all
//!   formats/journal   a journal beside the archive          at the unmount, when idle, by `stmount commit`, a Settle takes them:
//!     formats/zip       behind the archive, or anew           zip::settle
//!     formats/rebuild   anew, or at its end                   tar::settle, sevenz::settle
//!     formats/overlay   as files in a directory               over any tree
//! ```

#![deny(unsafe_code)]

pub mod cache;
pub mod codec;
pub mod error;
pub mod key;
pub mod pool;

pub mod source;
pub mod tree;

pub mod formats;
pub mod remote;

pub mod open;
pub mod vfs;

pub mod jobs;
pub mod mount;

pub mod cli;
