//! From a node back to a path, for messages.
//!
//! A tree knows no way up, so this is a search from the root, made only when something is wrong with a file and a person
//! has to be told which. It gives up in trees that are too large to search for the sake of a message.

use crate::tree::{Kind, Node, Tree};
use std::ops::ControlFlow;

/// Entries looked at before the search gives up; a second of work at most.
const MAX_ENTRIES: usize = 1_000_000;

/// A path that leads to the node, without a leading slash. Of several hard links it is any one.
pub fn path_of(tree: &dyn Tree, node: Node) -> Option<Vec<u8>> {
    let (mut waiting, mut seen, mut found) = (vec![(tree.root(), Vec::new())], 0, None);
    while let Some((dir, path)) = waiting.pop() {
        // A directory that cannot be listed is passed over: this is about another error.
        let _ = tree.list(dir, None, &mut |name, entry, kind| {
            seen += 1;
            if entry != node && kind != Kind::Directory && seen < MAX_ENTRIES {
                return ControlFlow::Continue(());
            }
            let own = join(&path, name.bytes());
            if entry == node {
                found = Some(own);
            } else if seen < MAX_ENTRIES {
                waiting.push((entry, own));
                return ControlFlow::Continue(());
            }
            ControlFlow::Break(())
        });
        if found.is_some() || seen >= MAX_ENTRIES {
            break;
        }
    }
    found
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}
