//! POSIX access control lists, as Linux keeps them in two extended attributes: what they mean for modes, and what a new
//! file takes over from its directory.
//!
//! ```text
//!   u32 version 2 ‖ entry …        entry = u16 tag ‖ u16 permissions ‖ u32 user or group
//! ```

use crate::error::{Error, Kind, Result};
use crate::tree::Xattr;

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";
const VERSION: [u8; 4] = [2, 0, 0, 0];

const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// A list, to be looked at and changed in place.
struct Acl(Vec<u8>);

impl Acl {
    fn parse(value: &[u8]) -> Option<Self> {
        let entries = value.strip_prefix(&VERSION)?;
        (entries.len() % 8 == 0).then(|| Self(value.to_vec()))
    }

    fn entries(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.0[4..].chunks_exact_mut(8)
    }

    fn get(&mut self, tag: u16) -> Option<u32> {
        let entry = self.entries().find(|entry| entry[..2] == tag.to_le_bytes())?;
        Some(u32::from(u16::from_le_bytes([entry[2], entry[3]])) & 7)
    }

    fn and(&mut self, tag: u16, bits: u32) {
        let old = self.get(tag);
        self.set(tag, old.unwrap_or(0) & bits);
    }

    fn set(&mut self, tag: u16, bits: u32) {
        if let Some(entry) = self.entries().find(|entry| entry[..2] == tag.to_le_bytes()) {
            entry[2..4].copy_from_slice(&(bits as u16 & 7).to_le_bytes());
        }
    }

    /// The entry that the group bits of a mode stand for.
    fn group_class(&mut self) -> u16 {
        if self.get(MASK).is_some() { MASK } else { GROUP_OBJ }
    }

    fn mode(&mut self) -> u32 {
        let class = self.group_class();
        let [user, group, other] = [USER_OBJ, class, OTHER].map(|tag| self.get(tag).unwrap_or(0));
        (user << 6) | (group << 3) | other
    }

    /// Whether it says no more than a mode does.
    fn is_plain(&self) -> bool {
        self.0.len() <= 4 + 3 * 8
    }
}

/// What a new file takes over from the lists of its directory; without a default list, the umask takes from the mode.
pub fn inherit(dir: &[Xattr], mode: &mut u32, umask: u32, is_dir: bool) -> Vec<Xattr> {
    let default = dir.iter().find(|(name, _)| name == DEFAULT);
    let Some((value, mut acl)) = default.and_then(|(_, value)| Some((value, Acl::parse(value)?))) else {
        *mode &= !umask;
        return Vec::new();
    };
    let class = acl.group_class();
    acl.and(USER_OBJ, *mode >> 6);
    acl.and(class, *mode >> 3);
    acl.and(OTHER, *mode);
    *mode = (*mode & !0o777) | acl.mode();
    let mut inherited = Vec::new();
    if !acl.is_plain() {
        inherited.push((ACCESS.to_vec(), acl.0));
    }
    if is_dir {
        inherited.push((DEFAULT.to_vec(), value.clone()));
    }
    inherited
}

/// The attributes after a change of the mode, where that changes them.
pub fn after_chmod(mut xattrs: Vec<Xattr>, mode: Option<u32>) -> Option<Vec<Xattr>> {
    let mode = mode?;
    let (_, value) = xattrs.iter_mut().find(|(name, _)| name == ACCESS)?;
    let mut acl = Acl::parse(value)?;
    let class = acl.group_class();
    acl.set(USER_OBJ, mode >> 6);
    acl.set(class, mode >> 3);
    acl.set(OTHER, mode);
    *value = acl.0;
    Some(xattrs)
}

/// The permission bits that an attribute brings with it, if it is an access list.
///
/// # Errors
/// `Invalid` when it should be a list and is none.
pub fn mode_of(name: &[u8], value: &[u8]) -> Result<Option<u32>> {
    if name != ACCESS && name != DEFAULT {
        return Ok(None);
    }
    let bad = || Error::new(Kind::Invalid, "the value is no access control list");
    let mut acl = Acl::parse(value).ok_or_else(bad)?;
    Ok((name == ACCESS).then(|| acl.mode()))
}

/// Leaves out an access list that says no more than the mode, as other file systems do.
pub fn tidy(xattrs: &mut Vec<Xattr>, name: &[u8], mode: Option<u32>) {
    if mode.is_some() {
        xattrs.retain(|(known, value)| known != name || value.len() > 4 + 3 * 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let entry =
            |(tag, bits): &(u16, u16)| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
        [VERSION.to_vec(), entries.iter().flat_map(entry).collect()].concat()
    }

    #[test]
    fn without_a_default_list_the_umask_counts() {
        let mut mode = 0o666;
        assert!(inherit(&[], &mut mode, 0o027, false).is_empty());
        assert_eq!(mode, 0o640);
    }

    #[test]
    fn a_default_list_counts_in_place_of_the_umask_and_goes_on_to_directories() {
        let default = acl(&[(USER_OBJ, 7), (2, 5), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 0)]);
        let dir = [(DEFAULT.to_vec(), default.clone())];
        let mut mode = 0o666;
        let inherited = inherit(&dir, &mut mode, 0o077, false);
        assert_eq!(mode, 0o660);
        assert_eq!(inherited.len(), 1);
        assert_eq!(Acl(inherited[0].1.clone()).get(MASK), Some(6));
        assert_eq!(inherit(&dir, &mut 0o777, 0, true)[1], (DEFAULT.to_vec(), default));
    }

    #[test]
    fn the_group_bits_of_a_mode_are_the_mask() {
        let access = acl(&[(USER_OBJ, 7), (2, 7), (GROUP_OBJ, 1), (MASK, 7), (OTHER, 0)]);
        assert_eq!(mode_of(ACCESS, &access).unwrap(), Some(0o770));
        let after = after_chmod(vec![(ACCESS.to_vec(), access)], Some(0o640)).unwrap();
        let mut list = Acl(after[0].1.clone());
        assert_eq!((list.get(MASK), list.get(GROUP_OBJ), list.get(USER_OBJ)), (Some(4), Some(1), Some(6)));
        assert!(mode_of(ACCESS, b"nonsense").is_err());
    }
}
