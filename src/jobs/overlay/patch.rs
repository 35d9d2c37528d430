//! An overlay as one file, and back.

use crate::error::{Error, Kind, Result, Within};
use crate::formats::Watch;
use crate::formats::overlay::{self, CHANGES, CHANGES_MAX, State};
use crate::open::overlay::{HeldDir, attach, belongs, has_journal, hold, settled};
use crate::open::{Claim, How, open_as};
use crate::tree::{Kind as NodeKind, Tree, find_path};
use std::path::Path;
use std::sync::Arc;

/// What is to be packed of an overlay, and what keeps others out meanwhile.
pub fn to_export(dir: &Path, base: Option<&Path>, how: &How) -> Result<(Arc<dyn Tree>, HeldDir)> {
    let (place, state) = settled(dir, base, how)?;
    Ok((overlay::to_patch(&place.dir, &state)?, place))
}

/// Lays a patch over its base, in a directory without changes. Returns how many paths it changes.
pub fn apply(patch: &Path, dir: &Path, base: &Path, how: &How, watch: &dyn Watch) -> Result<u64> {
    let tree = open_as(patch, &How { depth: 0, ..how.clone() })?.tree;
    let state = state_of(&*tree).within(|| patch.display())?;
    let now = belongs(base, &*open_as(base, how)?.tree, how)?;
    if now.print != state.belongs.print {
        let what = format!("the patch {} was made for another state of {}", patch.display(), base.display());
        return Err(Error::new(Kind::Changed, what).hint("it fits only the very same bytes; nothing was touched"));
    }
    if now.how != state.belongs.how {
        let what = format!("the patch {} was made over {} {}", patch.display(), base.display(), state.belongs.how);
        return Err(Error::new(Kind::Changed, what).hint("the same options as then: they change the names of files"));
    }
    let place = hold(dir, &Claim::default())?;
    let there = overlay::stored(&place.dir)?;
    if has_journal(&place.dir) || !there.map_or(Ok(true), |there| there.is_empty())? {
        let what = format!("the overlay {} has changes already", dir.display());
        return Err(Error::new(Kind::Exists, what).hint("another directory, or `stmount overlay reset` first"));
    }
    let over = attach(base, place, how)?;
    over.overlay.adopt(&state, &*tree, watch).within(|| patch.display())?;
    Ok(overlay::diff(&over.overlay.state())?.len() as u64)
}

fn state_of(tree: &dyn Tree) -> Result<State> {
    let node = find_path(tree, CHANGES.as_bytes()).map_err(|e| {
        Error::new(Kind::NotRecognised, "it is no patch of an overlay")
            .caused_by(e)
            .hint("stmount overlay export makes one")
    })?;
    let attr = tree.attr(node)?;
    if attr.kind != NodeKind::File || attr.size > CHANGES_MAX {
        return Err(Error::new(Kind::Limit, "its `changes` is no file of at most 1 GiB"));
    }
    let mut bytes = vec![0; attr.size as usize];
    tree.open(node)?.read_exact_at(0, &mut bytes)?;
    State::decode(&bytes)
}
