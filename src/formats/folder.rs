//! Stand-in: names and bytes only, nodes in a table.
use crate::error::{Error, Result};
use crate::source::{FileSource, ReadAt};
use crate::tree::*;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
pub struct Folder {
    root: PathBuf,
    nodes: Mutex<HashMap<u64, PathBuf>>,
    root_node: u64,
}
impl Folder {
    pub fn open(path: &Path) -> Result<Self> {
        let ino = std::fs::metadata(path).map_err(|e| Error::io(e, format!("cannot open {}", path.display())))?.ino();
        Ok(Self { root: path.into(), nodes: Mutex::new(HashMap::from([(ino, path.to_owned())])), root_node: ino })
    }
    fn path(&self, node: Node) -> PathBuf {
        self.nodes.lock().unwrap().get(&node.0).cloned().unwrap_or(self.root.clone())
    }
}
impl Tree for Folder {
    fn root(&self) -> Node {
        Node(self.root_node)
    }
    fn find(&self, dir: Node, name: Name<'_>) -> Result<Option<Node>> {
        let path = self.path(dir).join(std::ffi::OsStr::from_bytes(name.bytes()));
        let Ok(meta) = std::fs::symlink_metadata(&path) else { return Ok(None) };
        self.nodes.lock().unwrap().insert(meta.ino(), path);
        Ok(Some(Node(meta.ino())))
    }
    fn attr(&self, node: Node) -> Result<Attr> {
        let m = std::fs::symlink_metadata(self.path(node))?;
        let t = Time { secs: m.mtime(), nanos: m.mtime_nsec() as u32 };
        let kind = Kind::from_mode(m.mode()).unwrap();
        let size = if kind == Kind::File || kind == Kind::Symlink { m.size() } else { 0 };
        Ok(Attr {
            kind,
            mode: m.mode() & 0o7777,
            uid: m.uid(),
            gid: m.gid(),
            size,
            nlink: m.nlink() as u32,
            rdev: 0,
            mtime: t,
            ctime: t,
            allocated: m.blocks() * 512,
        })
    }
    fn list(&self, dir: Node, after: Option<Name<'_>>, visit: &mut Visit<'_>) -> Result<()> {
        let mut names: Vec<_> = std::fs::read_dir(self.path(dir))?.flatten().map(|e| e.file_name()).collect();
        names.sort();
        for name in names.iter().filter(|n| after.is_none_or(|a| n.as_bytes() > a.bytes())) {
            let name = Name::new(name.as_bytes())?;
            let Some(node) = self.find(dir, name)? else { continue };
            if visit(name, node, self.attr(node)?.kind) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
    fn target(&self, link: Node) -> Result<Vec<u8>> {
        Ok(std::fs::read_link(self.path(link))?.as_os_str().as_bytes().to_vec())
    }
    fn open(&self, file: Node) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(FileSource::open(&self.path(file))?))
    }
    fn totals(&self) -> Result<Totals> {
        Ok(Totals::default())
    }
    fn is_frozen(&self) -> bool {
        false
    }
}
