//! RAR archives, made by the writer of `rars`: no other program that is free makes any.

#![allow(dead_code)]

use rars::{ArchiveVersion, Builder};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How an archive is made.
#[derive(Clone, Copy)]
pub struct Rar {
    pub version: ArchiveVersion,
    pub is_solid: bool,
    pub is_stored: bool,
    pub password: Option<&'static str>,
    /// Whether the headers are encrypted.
    pub is_hidden: bool,
    /// Bytes of a volume.
    pub volumes: Option<usize>,
}

pub const fn rar(version: ArchiveVersion) -> Rar {
    Rar { version, is_solid: false, is_stored: false, password: None, is_hidden: false, volumes: None }
}

/// Every version that the writer knows.
pub const VERSIONS: &[ArchiveVersion] = &[
    ArchiveVersion::Rar14,
    ArchiveVersion::Rar15,
    ArchiveVersion::Rar20,
    ArchiveVersion::Rar29,
    ArchiveVersion::Rar40,
    ArchiveVersion::Rar50,
    ArchiveVersion::Rar70,
];

impl Rar {
    pub const fn solid(self) -> Self {
        Self { is_solid: true, ..self }
    }

    pub const fn stored(self) -> Self {
        Self { is_stored: true, ..self }
    }

    pub const fn locked(self, password: &'static str) -> Self {
        Self { password: Some(password), ..self }
    }

    pub const fn hidden(self) -> Self {
        Self { is_hidden: true, ..self }
    }

    pub const fn volumes(self, len: usize) -> Self {
        Self { volumes: Some(len), ..self }
    }

    pub fn is_new(&self) -> bool {
        matches!(self.version, ArchiveVersion::Rar50 | ArchiveVersion::Rar70)
    }

    fn has_modes(&self) -> bool {
        !matches!(self.version, ArchiveVersion::Rar13 | ArchiveVersion::Rar14 | ArchiveVersion::Rar15)
    }

    pub fn builder(&self) -> Builder {
        Builder::new(self.version)
            .solid(self.is_solid)
            .store(self.is_stored)
            .password(self.password.map(|password| password.as_bytes().to_vec()))
            .header_encryption(self.is_hidden)
            .volume_size(self.volumes)
    }

    /// An archive of these files.
    pub fn of(&self, files: &[(&str, &[u8])]) -> Vec<u8> {
        self.filled(files).to_bytes().unwrap()
    }

    /// The same in volumes.
    pub fn volumes_of(&self, files: &[(&str, &[u8])]) -> Vec<Vec<u8>> {
        self.try_volumes_of(files).unwrap()
    }

    /// The same; not every version can be written in every way.
    pub fn try_volumes_of(&self, files: &[(&str, &[u8])]) -> rars::Result<Vec<Vec<u8>>> {
        self.filled(files).build_volumes(None)
    }

    fn filled(&self, files: &[(&str, &[u8])]) -> Builder {
        let mut builder = self.builder();
        for (name, bytes) in files {
            builder.add_bytes(name.as_bytes().to_vec(), bytes.to_vec(), None, None).unwrap();
        }
        builder
    }

    /// An archive of what is below a directory.
    pub fn pack(&self, root: &Path, below: &[std::path::PathBuf]) -> Vec<u8> {
        let mut builder = self.builder();
        for path in below.iter().filter(|path| *path != root) {
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let time = Some(if self.is_new() { meta.mtime() as u32 } else { dos(meta.mtime()) });
            let mode = self.has_modes().then(|| meta.mode() & 0o7777);
            if meta.is_symlink() {
                let target = fs::read_link(path).unwrap().into_os_string();
                if self.is_new() {
                    builder.add_unix_symlink(name, target.as_bytes().to_vec(), false, time, mode).unwrap();
                }
            } else if meta.is_dir() {
                builder.add_directory(name, time, mode).unwrap();
            } else {
                builder.add_bytes(name, fs::read(path).unwrap(), time, mode).unwrap();
            }
        }
        builder.to_bytes().unwrap()
    }
}

/// Seconds of 1970 as DOS counts them.
pub fn dos(secs: i64) -> u32 {
    let date = stmount::tree::Time { secs, nanos: 0 };
    let ((year, month, day), time) = (date.civil(), secs.rem_euclid(86_400) as u32);
    let day = (year as u32 - 1980) << 9 | month << 5 | day;
    day << 16 | (time / 3600) << 11 | (time / 60 % 60) << 5 | ((time % 60) / 2)
}
