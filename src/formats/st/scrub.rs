//! Looking at all of a container that is open.

use super::past::Past;
use crate::error::Result;
use crate::formats::{Heals, Health, Scrubbed, Watch};

impl Heals for Past {
    fn identity(&self) -> [u8; 16] {
        self.medium().uid
    }

    fn health(&self) -> Health {
        self.medium().healing.told()
    }

    fn scrub(&self, watch: &dyn Watch) -> Result<Scrubbed> {
        let checked = self.newest().check_quietly(watch)?;
        let medium = self.medium();
        if let Some(mender) = medium.healing.mender(medium.source(), &medium.uid) {
            // Also what nothing needs any more, and the parity itself.
            let report = mender.verify(&|_| !watch.is_cancelled())?;
            if !report.is_whole() {
                medium.healing.repair_all();
            }
        }
        // A base that is not there is no damage.
        let files = checked.files.iter().filter(|file| !file.hurt.is_absent()).count() as u64;
        let other = checked.damage.len() as u64;
        Ok(Scrubbed { bytes: checked.bytes, files, other })
    }
}
