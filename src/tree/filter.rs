//! Which paths take part: `--include` and `--exclude` globs.

use crate::error::{Error, Kind, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Globs that choose paths. A pattern without a slash is compared with the last component, one with a slash with the
/// whole path below the root; `**` crosses directories. Exclusion wins, and takes what lies below with it.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
}

impl Filter {
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        Ok(Self { include: set(include)?, exclude: set(exclude)? })
    }

    pub fn is_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Whether the path (relative to the root, without a leading slash) is left out, with all that is below it.
    pub fn excludes(&self, path: &[u8]) -> bool {
        self.exclude.as_ref().is_some_and(|set| matches(set, path))
    }

    /// Whether a path that is not a directory takes part: it, or a directory above it, matches an include pattern.
    pub fn includes(&self, path: &[u8]) -> bool {
        let Some(set) = &self.include else { return true };
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        matches(set, path) || ends.into_iter().any(|end| matches(set, &path[..end]))
    }
}

fn matches(set: &GlobSet, path: &[u8]) -> bool {
    set.is_match(Path::new(OsStr::from_bytes(path)))
}

fn set(patterns: &[String]) -> Result<Option<GlobSet>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let anchored = pattern.trim_start_matches('/').trim_end_matches('/');
        let full =
            if pattern.trim_end_matches('/').contains('/') { anchored.to_owned() } else { format!("**/{anchored}") };
        let glob = GlobBuilder::new(&full).literal_separator(true).backslash_escape(true).build();
        set.add(
            glob.map_err(|e| Error::new(Kind::Usage, format!("the pattern {pattern:?} is not a glob")).caused_by(e))?,
        );
    }
    let set = set.build().map_err(|e| Error::new(Kind::Usage, "the patterns cannot be combined").caused_by(e))?;
    Ok(Some(set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let own = |s: &[&str]| s.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        Filter::new(&own(include), &own(exclude)).unwrap()
    }

    #[test]
    fn a_bare_pattern_meets_any_depth_and_a_path_only_its_place() {
        let f = filter(&[], &["*.o", "/build", "docs/*.pdf"]);
        for out in ["a.o", "x/y/a.o", "build", "docs/a.pdf"] {
            assert!(f.excludes(out.as_bytes()), "{out}");
        }
        for kept in ["a.c", "x/build", "docs/x/a.pdf", "more/docs/a.pdf"] {
            assert!(!f.excludes(kept.as_bytes()), "{kept}");
        }
    }

    #[test]
    fn including_a_directory_includes_what_is_below() {
        let f = filter(&["saves", "*.cfg"], &[]);
        assert!(f.includes(b"saves/slot1/a.bin") && f.includes(b"x/y.cfg"));
        assert!(!f.includes(b"data/a.bin"));
    }
}
