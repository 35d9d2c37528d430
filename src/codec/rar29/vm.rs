//! Filters as the bytes bring them: programs, and the ranges that they are for.
//!
//! Programs that are not known run in the machine of `rars`.

use super::filter::Filter;
use super::window::WINDOW;
use crate::codec::bits::High;
use crate::codec::damaged;
use crate::error::{Error, Kind, Result};
use rars::codec::rarvm;
use std::collections::VecDeque;

const MOST_PROGRAMS: usize = 8192;
const MOST_PENDING: usize = 8192;

/// Programs that are not known cost memory: as many, as much code of them, and as many of their ranges.
const MOST_FOREIGN: usize = 256;
const MOST_CODE: usize = 256 << 10;

/// Where the machine has the values of a program, how many the archive may give, and those of the machine before them.
const GLOBALS: u32 = 0x3c000;
const SYSTEM_GLOBALS: usize = 64;
const MOST_GLOBALS: usize = 0x2000 - SYSTEM_GLOBALS;

struct Program {
    kind: Kinds,
    size: usize,
    /// How often it was asked for again.
    count: u32,
}

enum Kinds {
    Known(Filter),
    Foreign(rarvm::Program, Vec<u8>),
}

/// A range that a filter is for.
struct Pending {
    program: usize,
    start: u64,
    size: usize,
    registers: [u32; 7],
    globals: Vec<u8>,
    count: u32,
}

#[derive(Default)]
pub(super) struct Filters {
    programs: Vec<Program>,
    last: usize,
    /// Code of programs that are not known.
    code: usize,
    pending: VecDeque<Pending>,
}

/// The values of a record.
struct Record<'a> {
    bytes: &'a [u8],
    bits: High,
}

impl Record<'_> {
    fn bits(&mut self, n: u32) -> Result<u32> {
        self.bits.take(&mut self.bytes, n)
    }

    fn number(&mut self) -> Result<u32> {
        match self.bits(2)? {
            0 => self.bits(4),
            1 => match self.bits(8)? {
                high @ 16.. => Ok(high),
                high => Ok(0xffff_ff00 | high << 4 | self.bits(4)?),
            },
            2 => self.bits(16),
            _ => self.bits(32),
        }
    }

    fn bytes(&mut self, n: usize) -> Result<Vec<u8>> {
        (0..n).map(|_| Ok(self.bits(8)? as u8)).collect()
    }
}

impl Filters {
    /// Forgets ranges that no byte reached.
    pub fn forget_pending(&mut self) {
        self.pending.clear();
    }

    /// Where the next range begins and ends.
    pub fn next(&self) -> Option<(u64, u64)> {
        self.pending.front().map(|next| (next.start, next.start + next.size as u64))
    }

    /// Takes a record, whose flags are given apart. `at` is how many bytes came before it.
    pub fn read(&mut self, flags: u8, bytes: &[u8], at: u64) -> Result<()> {
        let mut record = Record { bytes, bits: High::default() };
        let number = self.program_number(flags, &mut record)?;
        let mut start = at + u64::from(record.number()?);
        if flags & 0x40 != 0 {
            start += 258;
        }
        let known = self.programs.get(number);
        let mut size = known.map_or(0, |program| program.size);
        if flags & 0x20 != 0 {
            size = record.number()? as usize;
        }
        if size > WINDOW {
            return Err(Error::new(Kind::Limit, "a filter for more bytes than the dictionary holds"));
        }
        let mut registers = [0, 0, 0, GLOBALS, size as u32, known.map_or(0, |program| program.count), 0];
        if flags & 0x10 != 0 {
            let given = record.bits(7)?;
            for (_, register) in registers.iter_mut().enumerate().filter(|(n, _)| given >> n & 1 == 1) {
                *register = record.number()?;
            }
        }
        match self.programs.get_mut(number) {
            Some(program) => (program.count, program.size) = (program.count.wrapping_add(1), size),
            None => self.add_program(&mut record, size)?,
        }
        let globals = if flags & 8 != 0 { globals(&mut record)? } else { Vec::new() };
        self.last = number;
        self.add_pending(Pending { program: number, start, size, registers, globals, count: 0 })
    }

    fn program_number(&mut self, flags: u8, record: &mut Record) -> Result<usize> {
        if flags & 0x80 == 0 {
            return Ok(self.last);
        }
        let number = match record.number()? {
            0 => {
                *self = Self::default();
                0
            }
            number => number as usize - 1,
        };
        if number > self.programs.len() { Err(damaged("a filter that is not there")) } else { Ok(number) }
    }

    fn add_program(&mut self, record: &mut Record, size: usize) -> Result<()> {
        let len = record.number()? as usize;
        if len == 0 || len >= 0x10000 {
            return Err(damaged("a filter whose program cannot be so long"));
        }
        let code = record.bytes(len)?;
        let kind = match Filter::known(&code) {
            Some(filter) => Kinds::Known(filter),
            None => {
                self.code += len;
                let foreign = self.programs.iter().filter(|program| matches!(program.kind, Kinds::Foreign(..)));
                if self.code > MOST_CODE || foreign.count() >= MOST_FOREIGN {
                    return Err(Error::new(Kind::Limit, "there are too many filter programs"));
                }
                let program = rarvm::Program::parse(&code);
                let wrong = |e| damaged(format!("a filter program that is not known: {e}"));
                Kinds::Foreign(program.map_err(wrong)?, Vec::new())
            }
        };
        if self.programs.len() >= MOST_PROGRAMS {
            return Err(Error::new(Kind::Limit, "there are too many filters"));
        }
        self.programs.push(Program { kind, size, count: 0 });
        Ok(())
    }

    fn add_pending(&mut self, mut pending: Pending) -> Result<()> {
        let program = &self.programs[pending.program];
        pending.count = program.count;
        let most = match program.kind {
            Kinds::Known(_) => {
                pending.globals = Vec::new();
                MOST_PENDING
            }
            Kinds::Foreign(..) => MOST_FOREIGN,
        };
        if self.pending.len() >= most {
            return Err(Error::new(Kind::Limit, "there are too many filters at once"));
        }
        if self.pending.back().is_some_and(|last| last.start > pending.start) {
            return Err(damaged("filters that are not in their order"));
        }
        self.pending.push_back(pending);
        Ok(())
    }

    /// Undoes the next filter and those for the same range. `at` is where in the member the data begin.
    pub fn undo(&mut self, data: &mut Vec<u8>, at: u32) -> Result<()> {
        let (len, range) = (data.len(), self.next());
        while self.next() == range
            && let Some(next) = self.pending.pop_front()
        {
            match &mut self.programs[next.program].kind {
                // Nothing has to be done to no data.
                Kinds::Known(_) if len == 0 => {}
                Kinds::Known(filter) => filter.undo(data, at, next.registers)?,
                Kinds::Foreign(program, globals) => run(program, globals, data, at, &next)?,
            }
            if data.len() != len {
                return Err(damaged("a filter changes how many bytes there are"));
            }
        }
        Ok(())
    }
}

/// Values for a program, behind those of the machine.
fn globals(record: &mut Record) -> Result<Vec<u8>> {
    let len = record.number()? as usize;
    if len > MOST_GLOBALS {
        return Err(damaged("a filter with too many values"));
    }
    let mut globals = vec![0; SYSTEM_GLOBALS];
    globals.extend(record.bytes(len)?);
    Ok(globals)
}

fn run(program: &rarvm::Program, kept: &mut Vec<u8>, data: &mut Vec<u8>, at: u32, next: &Pending) -> Result<()> {
    let invocation = rarvm::Invocation {
        input: data,
        regs: next.registers,
        global_data: if next.globals.is_empty() { kept } else { &next.globals },
        file_offset: at.into(),
        exec_count: next.count,
    };
    let result = program.execute(invocation).map_err(|e| damaged(format!("a filter program: {e}")))?;
    (*kept, *data) = (result.globals, result.output);
    Ok(())
}
