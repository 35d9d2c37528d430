use super::*;
use crate::source::Memory;
use std::ops::ControlFlow;

struct Numbers;

impl Contents for Numbers {
    fn open(&self, content: u64) -> Result<Arc<dyn ReadAt>> {
        Ok(Arc::new(Memory::new(content.to_string().into_bytes())))
    }
}

const TIME: Time = Time { secs: 1000, nanos: 5 };

fn file(content: u64) -> Item {
    Item::new(Attr { size: content.to_string().len() as u64, ..Attr::new(Kind::File, 0o644, TIME) }, content)
}

fn dir(mode: u32) -> Item {
    Item::new(Attr::new(Kind::Directory, mode, TIME), 0)
}

fn built(duplicates: Duplicates, entries: &[(&[u8], Item)]) -> (Catalog, Vec<String>) {
    let mut builder = Builder::new(duplicates, 1000, TIME);
    for (path, item) in entries {
        builder.add(path, item.clone()).unwrap();
    }
    finished(builder)
}

fn finished(builder: Builder) -> (Catalog, Vec<String>) {
    let (tables, notes) = builder.finish();
    assert!(tables.are_sound());
    (Catalog::new(tables, Arc::new(Numbers), 10), notes)
}

/// All paths with the contents of files.
fn shown(tree: &Catalog) -> Vec<(String, String)> {
    let (mut all, mut todo) = (Vec::new(), vec![(tree.root(), String::new())]);
    while let Some((dir, path)) = todo.pop() {
        tree.list(dir, None, &mut |name, node, kind| {
            let path = format!("{path}/{}", String::from_utf8_lossy(name.bytes()));
            assert_eq!(tree.find(dir, name).unwrap(), Some(node));
            let what = match kind {
                Kind::Directory => "dir".to_owned(),
                Kind::File => match tree.open(node) {
                    Ok(file) => {
                        let mut bytes = vec![0; file.len().unwrap() as usize];
                        file.read_exact_at(0, &mut bytes).unwrap();
                        String::from_utf8(bytes).unwrap()
                    }
                    Err(e) => e.to_string(),
                },
                _ => String::from_utf8(tree.target(node).unwrap()).unwrap(),
            };
            all.push((path.clone(), what));
            if kind == Kind::Directory {
                todo.push((node, path));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    all.sort();
    all
}

fn paths(tree: &Catalog) -> Vec<String> {
    shown(tree).into_iter().map(|(path, what)| format!("{path} {what}")).collect()
}

#[test]
fn directories_are_there_though_the_archive_has_no_entry_of_them() {
    let (tree, notes) = built(Duplicates::Numbered, &[(b"a/b/c", file(1)), (b"a/", dir(0o700)), (b"./d", file(2))]);
    assert_eq!(paths(&tree), ["/a dir", "/a/b dir", "/a/b/c 1", "/d 2"]);
    let a = tree.find(tree.root(), Name::new(b"a").unwrap()).unwrap().unwrap();
    assert_eq!((tree.attr(a).unwrap().mode, tree.attr(a).unwrap().nlink), (0o700, 3));
    assert_eq!(tree.attr(tree.root()).unwrap().nlink, 3);
    assert_eq!(notes, Vec::<String>::new());
}

#[test]
fn no_path_leaves_the_tree_and_each_can_be_told() {
    let long = [b'x'; 300];
    let entries: Vec<(&[u8], Item)> = vec![
        (b"/etc/passwd", file(1)),
        (b"../../up", file(2)),
        (b"a/../b", file(3)),
        (&long, file(4)),
        (b"n\0l", file(5)),
    ];
    let (tree, notes) = built(Duplicates::Numbered, &entries);
    let shown = paths(&tree);
    assert_eq!(
        shown[..7],
        [
            "/%2E%2E dir",
            "/%2E%2E/%2E%2E dir",
            "/%2E%2E/%2E%2E/up 2",
            "/a dir",
            "/a/%2E%2E dir",
            "/a/%2E%2E/b 3",
            "/etc dir"
        ]
    );
    assert_eq!(shown[7..9], ["/etc/passwd 1", "/n%00l 5"]);
    assert!(shown[9].starts_with("/xxxx") && shown[9].len() == 1 + 255 + 2);
    let etc = tree.find(tree.root(), Name::new(b"etc").unwrap()).unwrap().unwrap();
    let passwd = tree.find(etc, Name::new(b"passwd").unwrap()).unwrap().unwrap();
    assert_eq!(tree.xattrs(passwd).unwrap(), [(PATH_ATTRIBUTE.to_vec(), b"/etc/passwd".to_vec())]);
    assert_eq!(notes.len(), 1);
}

#[test]
fn of_two_entries_of_one_path_none_is_lost() {
    let entries: Vec<(&[u8], Item)> =
        vec![(b"a.txt", file(1)), (b"a.txt", file(2)), (b"a.txt", file(3)), (b"a (1).txt", file(4))];
    let (tree, _) = built(Duplicates::Numbered, &entries);
    assert_eq!(paths(&tree), ["/a (1) (1).txt 4", "/a (1).txt 2", "/a (2).txt 3", "/a.txt 1"]);
    let (tree, notes) = built(Duplicates::LastWins, &entries);
    assert_eq!(paths(&tree), ["/a (1).txt 4", "/a.txt 3"]);
    assert_eq!(notes, ["2 entries stand for older ones of the same path, which are not shown"]);
    assert_eq!(tree.totals().unwrap().nodes, 3);
}

#[test]
fn a_file_makes_room_for_a_directory_of_its_name() {
    for duplicates in [Duplicates::Numbered, Duplicates::LastWins] {
        let (tree, _) = built(duplicates, &[(b"a", file(1)), (b"a/b", file(2)), (b"c/d", file(3)), (b"c", file(4))]);
        assert_eq!(paths(&tree), ["/a dir", "/a (1) 1", "/a/b 2", "/c dir", "/c (1) 4", "/c/d 3"]);
    }
}

#[test]
fn hard_links_are_one_node_whichever_comes_first() {
    let mut builder = Builder::new(Duplicates::LastWins, 1000, TIME);
    builder.link(b"early", b"./dir/file", file(0)).unwrap();
    builder.add(b"dir/file", file(7)).unwrap();
    builder.link(b"late", b"dir/file", file(0)).unwrap();
    builder.link(b"lost", b"nowhere", file(0)).unwrap();
    builder.link(b"itself", b"itself", file(0)).unwrap();
    let (tree, _) = finished(builder);
    assert_eq!(shown(&tree).iter().filter(|(_, what)| what == "7").count(), 3);
    let node = |name: &[u8]| tree.find(tree.root(), Name::new(name).unwrap()).unwrap().unwrap();
    assert_eq!(node(b"early"), node(b"late"));
    assert_eq!(tree.attr(node(b"late")).unwrap().nlink, 3);
    assert_eq!(tree.open(node(b"lost")).err().unwrap().kind(), ErrorKind::Damaged);
    assert_eq!(tree.open(node(b"itself")).err().unwrap().kind(), ErrorKind::Damaged);
}

#[test]
fn too_much_is_refused() {
    let mut builder = Builder::new(Duplicates::Numbered, 10, TIME);
    let refused = (0..20).find_map(|n| builder.add(format!("f{n}").as_bytes(), file(n)).err()).unwrap();
    assert_eq!(refused.kind(), ErrorKind::Limit);
    let deep = b"d/".repeat(5000);
    assert_eq!(Builder::new(Duplicates::Numbered, 10, TIME).add(&deep, dir(0)).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn many_entries_of_one_path_take_no_time() {
    let mut builder = Builder::new(Duplicates::Numbered, 1_000_000, TIME);
    (0..100_000).for_each(|n| assert!(builder.add(b"same", file(n)).is_ok()));
    let (tree, _) = finished(builder);
    assert_eq!(tree.attr(tree.root()).unwrap().nlink, 2);
    assert!(tree.find(tree.root(), Name::new(b"same (99999)").unwrap()).unwrap().is_some());
}

#[test]
fn a_listing_goes_on_behind_a_name() {
    let (tree, _) = built(Duplicates::Numbered, &[(b"a", file(1)), (b"c", file(2)), (b"b", file(3))]);
    let mut names = Vec::new();
    let after = Name::new(b"a").unwrap();
    tree.list(tree.root(), Some(after), &mut |name, _, _| {
        names.push(name.bytes().to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(names, [b"b", b"c"]);
}
