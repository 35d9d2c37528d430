//! Overlays by the real program and real mounts.

#[allow(dead_code)]
mod common {
    pub mod agree;
    pub mod desk;
    pub mod dress;
    pub mod fs;
    pub mod overlaid;
}

use common::desk::{Desk, until};
use common::overlaid::packed;
use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

fn desk_with(name: &'static str) -> Option<Desk> {
    let desk = Desk::new()?;
    let from = desk.path("from");
    fs::create_dir_all(from.join("data")).unwrap();
    fs::write(from.join("data/level"), vec![7; 50_000]).unwrap();
    fs::write(from.join("keys.cfg"), "jump=space\n").unwrap();
    packed(&from, &desk.path(""), name);
    Some(desk)
}

#[test]
fn a_game_saves_into_a_folder_and_the_archive_stays_as_it_was() {
    let Some(desk) = desk_with("game.zip") else { return };
    let archive = fs::read(desk.path("game.zip")).unwrap();
    let run = |script: &str| desk.say(&["run", "--overlay", "saves", "game.zip", "--", "sh", "-c", script]);
    let said = run("echo x > save && echo jump=w > keys.cfg && rm data/level");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(fs::read(desk.path("game.zip")).unwrap(), archive);
    assert_eq!(fs::read_to_string(desk.path("saves/files/save")).unwrap(), "x\n");
    assert_eq!(fs::read_to_string(desk.path("saves/files/keys.cfg")).unwrap(), "jump=w\n");
    assert!(run("test \"$(cat save)$(cat keys.cfg)\" = xjump=w && test ! -e data/level").status.success());
    assert_eq!(desk.ok(&["overlay", "diff", "saves"]), "D data/level\nM keys.cfg\nA save\n");
    let status: serde_json::Value = serde_json::from_str(&desk.ok(&["overlay", "status", "--json", "saves"])).unwrap();
    assert_eq!((&status["fits"], &status["added"], &status["journal"]), (&true.into(), &1.into(), &0.into()));
    // The archive is replaced: never mixed.
    let mut other = archive.clone();
    other.truncate(archive.len() - 1);
    other.push(archive[archive.len() - 1]);
    other[40] ^= 1;
    fs::write(desk.path("game.zip"), &other).unwrap();
    let said = run("true");
    assert_eq!(said.status.code(), Some(44));
    assert!(String::from_utf8_lossy(&said.stderr).contains("another state"));
    fs::write(desk.path("game.zip"), &archive).unwrap();
    desk.ok(&["overlay", "export", "saves", "mine.tar.zst"]);
    assert_eq!(desk.ok(&["overlay", "reset", "saves"]), "D data/level\nM keys.cfg\nA save\n");
    assert!(run("test ! -e save && test -e data/level").status.success());
    // On another machine.
    fs::create_dir(desk.path("elsewhere")).unwrap();
    fs::copy(desk.path("game.zip"), desk.path("elsewhere/g.zip")).unwrap();
    desk.ok(&["overlay", "apply", "mine.tar.zst", "elsewhere/saves", "--base", "elsewhere/g.zip"]);
    let said = desk.say(&["run", "--overlay", "elsewhere/saves", "elsewhere/g.zip", "--", "cat", "save"]);
    assert_eq!(said.stdout, b"x\n");
    desk.ok(&["overlay", "commit", "elsewhere/saves", "elsewhere/g.zip"]);
    assert_eq!(desk.ok(&["cat", "elsewhere/g.zip:save"]), "x\n");
    assert_eq!(fs::read(desk.path("game.zip")).unwrap(), archive);
}

#[test]
fn what_fsync_acknowledged_survives_kill_9() {
    for name in ["game.7z", "game.sqfs", "game.tar"] {
        let Some(desk) = desk_with(name) else { return };
        let archive = fs::read(desk.path(name)).unwrap();
        let mount = || drop(desk.ok(&["-o", "overlay=saves,commit=1h", name, "m"]));
        mount();
        let mut file = File::create(desk.path("m/data/save")).unwrap();
        file.write_all(b"acknowledged").unwrap();
        file.sync_all().unwrap();
        fs::write(desk.path("m/later"), "never synced").unwrap();
        drop(file);
        let said = desk.say(&["-o", "overlay=saves", name, "m2"]);
        assert_eq!(said.status.code(), Some(11), "{}", String::from_utf8_lossy(&said.stderr));
        let said = desk.say(&["overlay", "reset", "saves"]);
        assert!(said.status.code() == Some(11) && String::from_utf8_lossy(&said.stderr).contains("mounted on"));
        desk.kill("-9");
        assert!(desk.ok(&["overlay", "status", "saves"]).contains("journal"));
        mount();
        assert_eq!(fs::read(desk.path("m/data/save")).unwrap(), b"acknowledged");
        assert_eq!(fs::read(desk.path("m/data/level")).unwrap(), vec![7; 50_000]);
        desk.ok(&["commit", "m"]);
        assert_eq!(fs::read(desk.path("saves/files/data/save")).unwrap(), b"acknowledged");
        desk.kill("-9");
        mount();
        assert_eq!(fs::read(desk.path("m/data/save")).unwrap(), b"acknowledged");
        desk.umount();
        assert_eq!(fs::read(desk.path(name)).unwrap(), archive);
    }
}

#[test]
fn changes_lie_in_clear_some_seconds_later() {
    let Some(desk) = desk_with("game.zip") else { return };
    desk.ok(&["-o", "overlay=saves,commit=100ms", "game.zip", "m"]);
    fs::write(desk.path("m/save"), "soon").unwrap();
    until("it lies there", || fs::read(desk.path("saves/files/save")).is_ok_and(|bytes| bytes == b"soon"));
    desk.umount();
}

#[test]
fn a_temporary_overlay_leaves_nothing() {
    let Some(desk) = desk_with("game.zip") else { return };
    let tmp = desk.path("tmp");
    fs::create_dir(&tmp).unwrap();
    let mut mount = Command::new(env!("CARGO_BIN_EXE_stmount"));
    mount.args(["-o", "overlay=tmp", "game.zip", "m"]).current_dir(desk.path("")).env("TMPDIR", &tmp);
    let said = mount.output().unwrap();
    assert!(said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("gone then"), "{}", String::from_utf8_lossy(&said.stderr));
    fs::write(desk.path("m/save"), "for now").unwrap();
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 1);
    desk.umount();
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    desk.ok(&["game.zip", "m"]);
    assert!(!desk.path("m/save").exists());
    desk.umount();
}

#[test]
fn an_overlay_is_not_where_it_would_see_itself() {
    let Some(desk) = desk_with("game.zip") else { return };
    for (options, source, place) in
        [("overlay=m/in", "game.zip", "m"), ("overlay=from/in", "from", "m"), ("overlay=.", "game.zip", "m")]
    {
        let said = desk.say(&["-o", options, source, place]);
        assert_eq!(said.status.code(), Some(14), "{options}: {}", String::from_utf8_lossy(&said.stderr));
    }
    let said = desk.say(&["-o", "ro,overlay=saves", "game.zip", "m"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(!desk.path("saves").exists());
}

/// Archives inside of a folder as folders, several over each other: what a base is made of, an overlay does not ask.
#[test]
fn what_is_mounted_as_several_takes_changes_as_one() {
    let Some(desk) = desk_with("game.zip") else { return };
    fs::create_dir(desk.path("all")).unwrap();
    fs::copy(desk.path("game.zip"), desk.path("all/inner.zip")).unwrap();
    for (options, source, file) in [
        ("recursive,overlay=o1", "all", "inner.zip#/data/level"),
        ("overlay=o2", "game.zip+all", "data/level"),
        ("overlay=o3", "all", "inner.zip"),
    ] {
        for round in ["first", "second"] {
            desk.ok(&["-o", options, source, "m"]);
            let path = desk.path("m").join(file);
            if round == "first" {
                fs::write(&path, "changed").unwrap();
                fs::rename(&path, path.with_file_name("moved")).unwrap();
            }
            assert_eq!(fs::read(path.with_file_name("moved")).unwrap(), b"changed");
            assert!(!path.exists());
            desk.umount();
        }
    }
    let said = desk.say(&["-o", "overlay=o1", "all", "m"]);
    assert_eq!(said.status.code(), Some(44), "other options are another base");
}
