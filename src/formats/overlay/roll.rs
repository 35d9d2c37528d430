//! From one state to the next, so that after a crash it is one of the two.
//!
//! ```text
//!   new/N     contents that are new, complete and durable
//!   changes   the next state, with the steps that are left to do              the switch
//!   files/A ─► new/M     what moves goes out of the way, what is not needed goes
//!   changes   the same, with the other half of the steps                      only where something moved
//!   new/N ─► files/B
//!   changes   the same, with nothing left to do
//! ```
//!
//! Each half can be done again from its beginning: whoever opens the overlay after a crash does so first.

use super::dir::Dir;
use super::state::{Move, Spot, State};
use crate::error::{Error, Result};
use crate::tree::Node;
use std::collections::{HashMap, HashSet};

/// How far the steps have come.
pub struct Rolled {
    /// So many of them are done.
    pub done: usize,
    /// From here on they are to be done again after a failure: what is before may not be.
    pub again: usize,
    pub failed: Option<Error>,
}

/// Makes a state the one that counts. `state` has no steps in it.
pub fn switch(dir: &Dir, state: &State, moves: &[Move]) -> Result<()> {
    dir.write_changes(&State { moves: moves.to_vec(), ..state.clone() }.encode())
}

/// Does the steps of a state that counts.
pub fn finish(dir: &Dir, state: &State, moves: &[Move]) -> Rolled {
    let mut rolled = Rolled { done: 0, again: 0, failed: None };
    rolled.failed = roll(dir, state, moves, &mut rolled).err();
    rolled
}

fn roll(dir: &Dir, state: &State, moves: &[Move], rolled: &mut Rolled) -> Result<()> {
    let half = moves.iter().position(|step| matches!(step, Move::Into { .. })).unwrap_or(moves.len());
    let act = |moves: &[Move], done: &mut usize| {
        for step in moves {
            dir.act(step)?;
            *done += 1;
        }
        dir.tidy(moves);
        Ok::<_, Error>(())
    };
    act(&moves[..half], &mut rolled.done)?;
    if moves[..half].iter().any(|step| matches!(step, Move::Aside { .. })) {
        switch(dir, state, &moves[half..])?;
        rolled.again = half;
    }
    act(&moves[half..], &mut rolled.done)?;
    if !moves.is_empty() {
        dir.write_changes(&state.encode())?;
    }
    dir.sweep()
}

/// The steps from where contents lie to where they are to lie. `fresh` are those that lie below `new`, by their numbers.
pub fn moves(
    before: &HashMap<Node, Spot>,
    after: &HashMap<Node, Spot>,
    fresh: &HashMap<Node, u64>,
    folded: impl Fn(&[u8]) -> Vec<u8>,
) -> Vec<Move> {
    let clear = |spots: &HashMap<Node, Spot>, node: &Node| match spots.get(node) {
        Some(Spot::Clear { path, .. }) => Some(path.clone()),
        _ => None,
    };
    let (mut out, mut into) = (Vec::new(), Vec::new());
    let mut next = fresh.values().max().map_or(0, |number| number + 1);
    for node in after.keys() {
        let (Some(to), from) = (clear(after, node), clear(before, node)) else { continue };
        match (fresh.get(node), from) {
            (Some(number), _) => into.push((*number, to)),
            (None, Some(from)) if from != to => {
                out.push(Move::Aside { from, to: next });
                into.push((next, to));
                next += 1;
            }
            _ => {}
        }
    }
    let filled: HashSet<Vec<u8>> =
        after.keys().filter_map(|node| clear(after, node)).map(|path| folded(&path)).collect();
    let aside: HashSet<Vec<u8>> = out
        .iter()
        .filter_map(|step| if let Move::Aside { from, .. } = step { Some(folded(from)) } else { None })
        .collect();
    let gone = before
        .keys()
        .filter_map(|node| clear(before, node))
        .filter(|path| !filled.contains(&folded(path)) && !aside.contains(&folded(path)));
    let gone: Vec<Move> = gone.map(|path| Move::Gone { path }).collect();
    out.extend(gone);
    out.sort_by(|a, b| key(a).cmp(key(b)));
    into.sort();
    out.into_iter().chain(into.into_iter().map(|(from, to)| Move::Into { from, to })).collect()
}

fn key(step: &Move) -> &[u8] {
    match step {
        Move::Aside { from: path, .. } | Move::Gone { path } | Move::Into { to: path, .. } => path,
    }
}
