//! What verbs say and do to containers on a desk.

#![allow(dead_code)]

use super::desk::Desk;
use super::dice::Dice;
use std::fs;
use std::process::Command;

pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    (0..len).map(|_| dice.below(256) as u8).collect()
}

#[track_caller]
pub fn said(desk: &Desk, args: &[&str]) -> (i32, String) {
    let said = desk.say(args);
    let words = [said.stdout, said.stderr].concat();
    (said.status.code().unwrap_or(-1), String::from_utf8_lossy(&words).into_owned())
}

#[track_caller]
pub fn ends(desk: &Desk, args: &[&str], code: i32) -> String {
    let (ended, words) = said(desk, args);
    assert_eq!(ended, code, "{args:?}: {words}");
    words
}

#[track_caller]
pub fn assert_same(desk: &Desk, a: &str, b: &str) {
    let diff = Command::new("diff").arg("-r").args([desk.path(a), desk.path(b)]).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}

/// Unpacks a container, and compares it with a folder.
#[track_caller]
pub fn assert_holds(desk: &Desk, args: &[&str], folder: &str) {
    let _ = fs::remove_dir_all(desk.path("out"));
    desk.ok(&[&["unpack", "-q", "-C", "out"], args].concat());
    assert_same(desk, "out", folder);
    fs::remove_dir_all(desk.path("out")).unwrap();
}

pub fn len(desk: &Desk, name: &str) -> u64 {
    fs::metadata(desk.path(name)).unwrap().len()
}
