//! Passphrases become keys, slowly: Argon2id, version 1.3 ([RFC 9106](https://www.rfc-editor.org/rfc/rfc9106)).
//!
//! What one guess costs stands in the file, in clear, so a file can ask for any cost. These limits say what opening a
//! file with a passphrase takes at most, whatever is in it:
//!
//! ```text
//!   memory   2 GiB, and never more than the machine has free          per slot
//!   passes   64                                                        per slot
//!   memory × passes   256 GiB: some minutes                            all slots that one passphrase is tried on
//! ```
//!
//! Lanes are computed one after the other here, so they cost a guesser what they cost us; new slots have one.

use super::Secret;
use crate::error::{Error, Kind, Result};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// What one guess costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

const MIB: u32 = 1 << 10;
const MEMORY_LIMIT: u32 = 2048 * MIB;
const PASSES_LIMIT: u32 = 64;
const LANES_LIMIT: u32 = 16;

/// KiB of memory times passes that one passphrase may cost, over all slots it is tried on.
pub const WORK_LIMIT: u64 = 256 << 20;

/// Memory of a new slot, where the machine has as much.
const MEMORY_LEAST: u32 = 64 * MIB;
const MEMORY_MOST: u32 = 1024 * MIB;
/// Memory of a new slot on a machine that has next to none.
const MEMORY_FLOOR: u32 = 8 * MIB;

impl Cost {
    /// The least that Argon2 knows. For tests, and for passphrases that are keys already.
    pub const LEAST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };

    /// A second or two on most machines, for where it cannot be measured.
    pub const DEFAULT: Self = Self { memory_kib: 256 * MIB, passes: 4, lanes: 1 };

    /// What takes about so long on this machine: first as much memory as helps, then passes. It takes about twice as
    /// long to find out.
    ///
    /// # Errors
    /// `System` when there is no memory at all.
    pub fn calibrated(target: Duration) -> Result<Self> {
        let most = free_memory().map_or(MEMORY_MOST, |free| quarter_of(free.memory_kib));
        Self::fitting(target, most, |cost| {
            let begun = Instant::now();
            cost.stretch(&Secret::new(b"stmount".to_vec()), &[0; 16])?;
            Ok(begun.elapsed())
        })
    }

    /// As [`Self::calibrated`], with memory up to `most` and what `measure` finds.
    fn fitting(target: Duration, most: u32, measure: impl Fn(Self) -> Result<Duration>) -> Result<Self> {
        let seconds = |cost| measure(cost).map(|took| took.as_secs_f64().max(1e-6));
        let mut cost = Self { memory_kib: MEMORY_LEAST.min(most), passes: 1, lanes: 1 };
        let mut took = seconds(cost)?;
        let grown = (f64::from(cost.memory_kib) * target.as_secs_f64() / took) as u32;
        // Whole MiB, as people read it.
        let memory = (grown.min(most) / MIB * MIB).max(cost.memory_kib);
        if memory > cost.memory_kib {
            cost.memory_kib = memory;
            took = seconds(cost)?;
        }
        cost.passes = ((target.as_secs_f64() / took).round() as u32).clamp(1, PASSES_LIMIT);
        Ok(cost)
    }

    /// KiB of memory times passes.
    pub fn work(&self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Whether it is one that this program pays.
    ///
    /// # Errors
    /// `Limit` when it is too much, or nothing that Argon2 knows.
    pub fn check(&self) -> Result<()> {
        let lanes = (1..=LANES_LIMIT).contains(&self.lanes);
        let passes = (1..=PASSES_LIMIT).contains(&self.passes);
        if lanes && passes && (8 * self.lanes..=MEMORY_LIMIT).contains(&self.memory_kib) {
            return Ok(());
        }
        let Self { memory_kib, passes, lanes } = self;
        let what = format!("its passphrase costs {memory_kib} KiB of memory, {passes} passes and {lanes} lanes");
        Err(Error::new(Kind::Limit, what).hint(format!(
            "at most {} MiB, {PASSES_LIMIT} passes and {LANES_LIMIT} lanes are paid for a file",
            MEMORY_LIMIT / MIB
        )))
    }

    /// The 32 bytes that this passphrase gives with this salt.
    ///
    /// # Errors
    /// `Limit` as [`Self::check`]; `System` when the machine has not got the memory.
    pub fn stretch(&self, passphrase: &Secret, salt: &[u8; 16]) -> Result<Zeroizing<[u8; 32]>> {
        self.check()?;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(failed)?;
        let mut memory = self.memory(params.block_count())?;
        let mut out = Zeroizing::new([0; 32]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2
            .hash_password_into_with_memory(passphrase.expose(), salt, &mut *out, memory.as_mut_slice())
            .map_err(failed)?;
        Ok(out)
    }

    /// The memory to compute in. It is wiped: who finds the last of it knows the key.
    fn memory(&self, blocks: usize) -> Result<Zeroizing<Vec<Block>>> {
        let short = || {
            let needed = self.memory_kib.div_ceil(MIB);
            Error::new(Kind::System, format!("its passphrase needs {needed} MiB of memory, which are not free"))
                .hint("end other programs, or open it where there is more memory")
        };
        // A system that promises more than it has would end this process, or another one, instead of saying no.
        if free_memory().is_some_and(|free| u64::from(self.memory_kib) > free.memory_kib + free.swap_kib) {
            return Err(short());
        }
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks).map_err(|_| short())?;
        memory.resize(blocks, Block::default());
        Ok(Zeroizing::new(memory))
    }
}

fn failed(e: argon2::Error) -> Error {
    Error::new(Kind::System, format!("cannot make a key of the passphrase ({e})"))
}

fn quarter_of(free_kib: u64) -> u32 {
    let quarter = u32::try_from(free_kib / 4).unwrap_or(u32::MAX);
    quarter.clamp(MEMORY_FLOOR, MEMORY_MOST) / MIB * MIB
}

struct Free {
    memory_kib: u64,
    swap_kib: u64,
}

/// Memory that could be had without harm to others, where the system tells.
fn free_memory() -> Option<Free> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let of = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Free { memory_kib: of("MemAvailable")?, swap_kib: of("SwapFree").unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(memory_kib: u32, passes: u32, lanes: u32) -> Cost {
        Cost { memory_kib, passes, lanes }
    }

    #[test]
    fn known_answers() {
        // Computed with Python: cryptography's Argon2id. See tests/keys_vectors.py.
        let key = cost(64, 3, 2).stretch(&Secret::new(b"correct horse".to_vec()), &[0x11; 16]).unwrap();
        let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "5b07551565d6539b831bec87d663bad100489072657890684481a194f4aca79a");
    }

    #[test]
    fn a_cost_beyond_the_limits_is_refused_before_it_is_paid() {
        for good in [Cost::LEAST, Cost::DEFAULT, cost(2 << 20, 64, 16), cost(128, 1, 16)] {
            good.check().unwrap();
        }
        let bad = [cost(7, 1, 1), cost(8, 0, 1), cost(8, 1, 0), cost((2 << 20) + 1, 1, 1), cost(127, 1, 16)];
        for bad in
            bad.into_iter().chain([cost(1 << 20, 65, 1), cost(1 << 20, 1, 17), cost(u32::MAX, u32::MAX, u32::MAX)])
        {
            let refused = bad.stretch(&Secret::new(vec![1]), &[0; 16]).unwrap_err();
            assert_eq!(refused.kind(), Kind::Limit, "{bad:?}");
        }
    }

    #[test]
    fn memory_comes_before_passes() {
        // A machine that fills so many MiB in a second.
        let on = |mib_per_second: f64, most: u32| {
            let measure = |cost: Cost| Ok(Duration::from_secs_f64(cost.work() as f64 / 1024.0 / mib_per_second));
            Cost::fitting(Duration::from_secs(1), most, measure).unwrap()
        };
        assert_eq!(on(700.0, MEMORY_MOST), cost(700 * MIB, 1, 1));
        assert_eq!(on(4000.0, MEMORY_MOST), cost(1024 * MIB, 4, 1));
        assert_eq!(on(700.0, 100 * MIB), cost(100 * MIB, 7, 1));
        assert_eq!(on(10.0, MEMORY_MOST), cost(64 * MIB, 1, 1));
        assert_eq!(on(1e9, 8 * MIB), cost(8 * MIB, 64, 1));
        assert_eq!((quarter_of(1 << 20), quarter_of(0), quarter_of(u64::MAX)), (256 * MIB, 8 * MIB, 1024 * MIB));
    }

    #[test]
    fn what_was_measured_is_within_the_limits() {
        let cost = Cost::calibrated(Duration::from_millis(20)).unwrap();
        cost.check().unwrap();
        assert!(cost.memory_kib >= MEMORY_FLOOR && cost.memory_kib <= MEMORY_MOST);
    }
}
