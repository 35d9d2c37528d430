//! What is slightly wrong in an archive, and how often.

use crate::error::{Error, Kind, Result};

/// What was found until now.
pub struct Slips {
    is_strict: bool,
    found: Vec<(&'static str, u64)>,
}

impl Slips {
    pub fn new(is_strict: bool) -> Self {
        Self { is_strict, found: Vec::new() }
    }

    /// Takes note of something.
    ///
    /// # Errors
    /// `Header`, when nothing is to be wrong.
    pub fn add(&mut self, what: &'static str) -> Result<()> {
        if self.is_strict {
            return Err(Error::new(Kind::Header, what).hint("without --strict it is read all the same"));
        }
        match self.found.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += 1,
            None => self.found.push((what, 1)),
        }
        Ok(())
    }

    /// Whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// For a person.
    pub fn notes(self) -> Vec<String> {
        let note = |(what, count): (&str, u64)| match count {
            1 => what.to_owned(),
            _ => format!("{what} ({count} times)"),
        };
        self.found.into_iter().map(note).collect()
    }
}
