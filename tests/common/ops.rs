//! Random operations of a file system.

use super::dice::Dice;
use super::fs::{Op, Path};
use stmount::vfs::Rename;

impl Dice {
    /// Few names, so that operations meet.
    pub fn path(&mut self) -> Path {
        let depth = self.of(&[1, 1, 2, 2, 2, 3]);
        (0..depth).map(|_| self.of(&["a", "b", "c", "d"])).collect()
    }

    pub fn bytes(&mut self, most: u64) -> Vec<u8> {
        let len = match self.below(4) {
            0 => self.below(most),
            1 => self.below(5000),
            _ => self.below(60),
        };
        let mut state = self.below(1 << 30) | 1;
        // Runs, so that some of it repeats and some does not.
        let run = 1 + self.below(64);
        let next = |i: u64| {
            if i.is_multiple_of(run) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            }
            (state >> 40) as u8
        };
        (0..len).map(next).collect()
    }

    /// As many as fit an attribute of every file system.
    pub fn few_bytes(&mut self) -> Vec<u8> {
        let mut bytes = self.bytes(100);
        bytes.truncate(100);
        bytes
    }

    pub fn at(&mut self, most: u64) -> u64 {
        if self.below(3) == 0 { 0 } else { self.below(most) }
    }

    pub fn op(&mut self, most: u64) -> Op {
        match self.below(30) {
            0..=3 => Op::Create(self.path()),
            4 | 5 => Op::Mkdir(self.path()),
            6 => Op::Symlink(self.path(), "../nowhere/at all"),
            7 => Op::Fifo(self.path()),
            8 => Op::Unlink(self.path()),
            9 => Op::Rmdir(self.path()),
            10 => Op::Link(self.path(), self.path()),
            11 | 12 => {
                let how = self.of(&[Rename::Replace, Rename::Replace, Rename::NoReplace, Rename::Exchange]);
                Op::Rename(self.path(), self.path(), how)
            }
            13..=17 => Op::Write(self.path(), self.at(most), self.bytes(most)),
            18 => Op::Truncate(self.path(), self.at(most)),
            19 => Op::Punch(self.path(), self.at(most), 1 + self.below(most)),
            20 => Op::Extend(self.path(), self.at(most), 1 + self.below(2000)),
            21 | 22 => Op::Copy(self.path(), self.at(most), self.path(), self.at(most), 1 + self.below(most)),
            23 => Op::Chmod(self.path(), self.of(&[0o600, 0o644, 0o755, 0o777])),
            24 => Op::Mtime(self.path(), self.below(2_000_000_000) as i64 - 1000),
            25 => Op::SetXattr(self.path(), self.of(&["user.x", "user.y"]), self.few_bytes()),
            26 => Op::RemoveXattr(self.path(), self.of(&["user.x", "user.y"])),
            27 => Op::Hold(self.path(), self.below(3) as usize),
            28 => Op::WriteHeld(self.below(3) as usize, self.at(most), self.bytes(most)),
            _ => Op::Release(self.below(3) as usize),
        }
    }
}
