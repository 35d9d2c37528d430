//! The options of a mount, as `-o` of mount(8) and the fourth column of fstab give them.
//!
//! One table names them all; `_` and `-` are the same in a name. Options that concern mount(8) and systemd and not a
//! file system are accepted and do nothing. Anything else is an error that names the nearest option there is.

use crate::error::{Error, Kind, Result};
use crate::formats::Upkeep;
use crate::open::overlay::Overlaying;
use crate::open::{Indexing, Profiling, Wishes};
use crate::remote::{self, HostKey, Offline};
use crate::vfs::{Commit, Policy};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// How names are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Case {
    /// What the operating system is used to: sensitive, except on macOS and Windows.
    #[default]
    Auto,
    Sensitive,
    Insensitive,
}

/// How to mount. The default is what a plain `stmount ARCHIVE DIR` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub read_only: bool,
    /// Also archives of other makers take changes.
    pub read_write: bool,
    /// Show what others commit to a container that is mounted read-only.
    pub follow: bool,
    /// Where changes go, and the source stays as it is. As `cachesize`, for whoever opens it.
    pub overlay: Option<Overlaying>,
    /// Write to a container that a process of another machine seems to write to. Not used below, as `cachesize`.
    pub break_lock: bool,
    /// Longest time that a change waits for its commit.
    pub commit: Option<Duration>,
    /// How space is given back, and which earlier states stay. As `cachesize`, for whoever opens the container.
    pub upkeep: Upkeep,
    /// How often all is looked at for damage, in the background, and how many decoded bytes a second.
    pub scrub: Option<Duration>,
    pub scrub_rate: u64,
    pub allow_other: bool,
    pub allow_root: bool,
    /// Let the kernel check modes and owners. Only for mounts whose every user may see everything is it worth turning off.
    pub default_permissions: bool,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub umask: u32,
    pub fmask: u32,
    pub dmask: u32,
    pub case: Case,
    pub suid: bool,
    pub dev: bool,
    pub exec: bool,
    pub atime: bool,
    /// fsync waits until what goes to a server is there.
    pub fsync_remote: bool,
    pub sync: bool,
    pub dirsync: bool,
    /// What `df` and `/proc/self/mountinfo` show as the source. Any bytes but NUL.
    pub fsname: Option<OsString>,
    /// A name for people, where the system shows one.
    pub volname: Option<String>,
    /// How archives are opened. As `cachesize`.
    pub archive: Wishes,
    /// Files with passwords to try, for whoever opens the archive.
    pub password_files: Vec<PathBuf>,
    /// The keyring of the desktop is asked for passwords. As `password_files`.
    pub keyring: bool,
    /// Files with secret keys, and keyfiles. As `password_files`.
    pub identities: Vec<PathBuf>,
    pub keyfiles: Vec<PathBuf>,
    /// The file of the key that signs what is written; an empty name is that of this user. As `cachesize`.
    pub sign: Option<PathBuf>,
    /// Bytes of memory for decoded data. Not used below: whoever opens the container sizes its cache with it.
    pub cachesize: Option<u64>,
    /// Threads that take requests from the kernel.
    pub threads: Option<usize>,
    /// Bytes to read ahead of a sequential reader.
    pub readahead: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            read_write: false,
            follow: false,
            overlay: None,
            break_lock: false,
            commit: None,
            upkeep: Upkeep::default(),
            scrub: None,
            scrub_rate: SCRUB_RATE,
            allow_other: false,
            allow_root: false,
            default_permissions: true,
            uid: None,
            gid: None,
            umask: 0,
            fmask: 0,
            dmask: 0,
            case: Case::Auto,
            suid: false,
            dev: false,
            exec: true,
            atime: false,
            fsync_remote: false,
            sync: false,
            dirsync: false,
            fsname: None,
            volname: None,
            archive: Wishes::default(),
            password_files: Vec::new(),
            keyring: false,
            identities: Vec::new(),
            keyfiles: Vec::new(),
            sign: None,
            cachesize: None,
            threads: None,
            readahead: None,
        }
    }
}

type SetFlag = fn(&mut Options);
type SetValue = fn(&mut Options, &str) -> Result<()>;

/// Options without a value.
const FLAGS: &[(&str, SetFlag)] = &[
    ("ro", |o| o.read_only = true),
    ("rw", |o| (o.read_only, o.read_write) = (false, true)),
    ("break-lock", |o| o.break_lock = true),
    ("follow", |o| (o.read_only, o.follow) = (true, true)),
    ("allow-other", |o| o.allow_other = true),
    ("allow-root", |o| o.allow_root = true),
    ("default-permissions", |o| o.default_permissions = true),
    ("no-default-permissions", |o| o.default_permissions = false),
    ("suid", |o| o.suid = true),
    ("nosuid", |o| o.suid = false),
    ("dev", |o| o.dev = true),
    ("nodev", |o| o.dev = false),
    ("exec", |o| o.exec = true),
    ("noexec", |o| o.exec = false),
    ("atime", |o| o.atime = true),
    ("noatime", |o| o.atime = false),
    ("sync", |o| o.sync = true),
    ("async", |o| o.sync = false),
    ("dirsync", |o| o.dirsync = true),
    ("keyring", |o| o.keyring = true),
    ("strict", |o| o.archive.strict = true),
    ("force", |o| o.archive.force = true),
    ("backup", |o| o.archive.backups = 1),
    ("base-hints", |o| o.archive.bases.follows_hints = true),
    ("recursive", |o| o.archive.depth = DEPTH),
    ("sign", |o| o.sign = Some(PathBuf::new())),
    ("nocache", |o| o.archive.cache_max = Some(0)),
    ("allow-damaged", |o| o.archive.allow_damaged = true),
    ("record", |o| o.archive.profiling = Profiling::Record),
    ("noprofile", |o| o.archive.profiling = Profiling::Nothing),
    ("scrub", |o| o.scrub = Some(WEEK)),
    ("noscrub", |o| o.scrub = None),
];

/// How often a container is looked at, and how fast, when nobody says so.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const SCRUB_RATE: u64 = 20 << 20;

/// Changes lie in clear in an overlay when nothing was changed for so long.
const OVERLAY_SETTLES: Duration = Duration::from_secs(5);

/// How deep archives are shown as folders when nobody says how deep.
const DEPTH: u32 = 8;

/// Options with a value.
const VALUES: &[(&str, SetValue)] = &[
    ("uid", |o, v| number(v, 10).map(|n| o.uid = Some(n))),
    ("gid", |o, v| number(v, 10).map(|n| o.gid = Some(n))),
    ("umask", |o, v| mask(v).map(|n| o.umask = n)),
    ("fmask", |o, v| mask(v).map(|n| o.fmask = n)),
    ("dmask", |o, v| mask(v).map(|n| o.dmask = n)),
    ("cachesize", |o, v| size(v).map(|n| o.cachesize = Some(n))),
    ("encoding", |o, v| text(v).map(|v| o.archive.encoding = Some(v))),
    ("recursive", |o, v| number(v, 10).map(|n| o.archive.depth = n)),
    ("max-entries", |o, v| size(v).map(|n| o.archive.max_entries = Some(usize::try_from(n).unwrap_or(usize::MAX)))),
    ("index", |o, v| text(v).map(|v| o.archive.indexes = indexing(&v))),
    ("cache", |o, v| text(v).map(|v| o.archive.cache_dir = Some(v.into()))),
    ("deadline", |o, v| seconds(v).map(|t| o.archive.link.patience = t)),
    ("connections", |o, v| number(v, 10).map(|n| o.archive.link.connections = n as usize)),
    ("ca", |o, v| text(v).map(|v| o.archive.link.ca = Some(v.into()))),
    ("cert", |o, v| text(v).map(|v| o.archive.link.client = Some(v.into()))),
    ("bearer", |o, v| text(v).map(|v| o.archive.link.bearer = Some(v.into()))),
    ("proxy", |o, v| text(v).map(|v| o.archive.link.proxy = Some(v))),
    ("endpoint", |o, v| text(v).map(|v| o.archive.link.endpoint = Some(v))),
    ("limit-rate", |o, v| rate(v).map(|n| o.archive.link.rate = Some(n))),
    ("mirror", |o, v| mirror(v).map(|v| o.archive.link.mirrors.push(v))),
    ("hostkey", |o, v| hostkey(v).map(|v| o.archive.link.hostkey = v)),
    ("offline", |o, v| offline(v).map(|v| o.archive.link.offline = v)),
    ("cache-max", |o, v| size(v).map(|n| o.archive.cache_max = Some(n))),
    ("base", |o, v| text(v).map(|v| o.archive.bases.named.push(v.into()))),
    ("backup", |o, v| number(v, 10).map(|n| o.archive.backups = n)),
    ("trust", |o, v| v.parse().map(|level| o.archive.trust = Some(level))),
    ("record", |o, v| text(v).map(|v| o.archive.profiling = Profiling::RecordIn(v.into()))),
    ("profile", |o, v| text(v).map(|v| o.archive.profiling = Profiling::From(v.into()))),
    ("password-file", |o, v| text(v).map(|v| o.password_files.push(v.into()))),
    ("identity", |o, v| text(v).map(|v| o.identities.push(v.into()))),
    ("keyfile", |o, v| text(v).map(|v| o.keyfiles.push(v.into()))),
    ("sign", |o, v| text(v).map(|v| o.sign = Some(v.into()))),
    ("overlay", |o, v| text(v).map(|v| o.overlay = Some(overlaying(v)))),
    ("fsync", |o, v| where_to(v).map(|is_remote| o.fsync_remote = is_remote)),
    ("commit", |o, v| seconds(v).map(|t| o.commit = Some(t))),
    ("scrub", |o, v| seconds(v).map(|t| o.scrub = Some(t))),
    ("scrub-rate", |o, v| size(v).map(|n| o.scrub_rate = n)),
    ("slack", |o, v| size(v).map(|n| o.upkeep.slack = n)),
    ("keep-last", |o, v| number(v, 10).map(|n| o.upkeep.last = n)),
    ("keep-hourly", |o, v| number(v, 10).map(|n| o.upkeep.hourly = n)),
    ("keep-daily", |o, v| number(v, 10).map(|n| o.upkeep.daily = n)),
    ("keep-weekly", |o, v| number(v, 10).map(|n| o.upkeep.weekly = n)),
    ("keep-monthly", |o, v| number(v, 10).map(|n| o.upkeep.monthly = n)),
    ("readahead", |o, v| size(v).map(|n| o.readahead = Some(n))),
    ("threads", |o, v| number(v, 10).map(|n| o.threads = Some(n.clamp(1, 64) as usize))),
    ("case", |o, v| case(v).map(|c| o.case = c)),
    ("fsname", |o, v| text(v).map(|v| o.fsname = Some(v.into()))),
    ("volname", |o, v| text(v).map(|v| o.volname = Some(v))),
    // The subtype is ours: `mount` and `umount` find their helpers by it.
    ("subtype", |_, _| Ok(())),
];

/// What mount(8), fstab and systemd write for themselves, with or without a value.
const IGNORED: &[&str] = &[
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "comment",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "diratime",
    "nodiratime",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "loud",
    "silent",
    "nonempty",
    "uhelper",
    "helper",
    "context",
    "fscontext",
    "defcontext",
    "rootcontext",
];

impl Options {
    /// Takes the strings given to `-o`, each a list separated by commas. The last word on a thing counts.
    ///
    /// # Errors
    /// `Usage` for an unknown option or a value that makes no sense, `ReadOnly` for `rw`.
    pub fn parse(list: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        for option in list.iter().flat_map(|item| split(item)).filter(|o| !o.is_empty()) {
            options.set(&option)?;
        }
        if options.follow && !options.read_only {
            return Err(usage("follow is for a read-only mount").hint("leave rw away"));
        }
        if options.overlay.is_some() && options.read_only {
            return Err(usage("an overlay takes changes, and ro forbids them").hint("leave ro, or overlay= away"));
        }
        Ok(options)
    }

    /// Takes one option, `name` or `name=value`, whose value may hold commas.
    pub fn set(&mut self, option: &str) -> Result<()> {
        let (name, value) = option.split_once('=').map_or((option, None), |(n, v)| (n, Some(v)));
        if is_ignored(name) {
            return Ok(());
        }
        let plain = name.replace('_', "-");
        match (find(FLAGS, &plain), find(VALUES, &plain), value) {
            (Some(set), _, None) => set(self),
            (_, Some(set), Some(value)) => set(self, value).map_err(|e| e.within(format!("option {option:?}")))?,
            (Some(_), ..) => return Err(usage(format!("option {name:?} takes no value"))),
            (_, Some(_), _) => return Err(usage(format!("option {name:?} needs a value"))),
            _ => return Err(unknown_option(name, &plain)),
        }
        Ok(())
    }

    /// What of this the file system is told; the rest is for the kernel.
    pub fn policy(&self) -> Policy {
        Policy {
            uid: self.uid,
            gid: self.gid,
            umask: self.umask,
            fmask: self.fmask,
            dmask: self.dmask,
            ignore_case: self.ignores_case(),
            read_ahead: self.readahead.unwrap_or(Policy::default().read_ahead),
            fsync_remote: self.fsync_remote,
        }
    }

    /// When changes are committed that nobody asked to be.
    pub fn when_to_commit(&self) -> Commit {
        let default = Commit::default();
        // Whoever looks into the directory wants to see what was saved just now.
        let settle = if self.overlay.is_some() { OVERLAY_SETTLES } else { default.settle };
        Commit { after: self.commit.unwrap_or(default.after), settle, ..default }
    }

    fn ignores_case(&self) -> bool {
        match self.case {
            Case::Auto => cfg!(any(windows, target_os = "macos")),
            Case::Sensitive => false,
            Case::Insensitive => true,
        }
    }
}

/// Parts a list at its commas, except at those behind a backslash.
fn split(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        let last = parts.len() - 1;
        match c {
            ',' => parts.push(String::new()),
            '\\' => parts[last].extend(chars.next().or(Some('\\'))),
            c => parts[last].push(c),
        }
    }
    parts
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, set)| *set)
}

fn is_ignored(name: &str) -> bool {
    name.starts_with("x-") || name.starts_with("X-") || name.starts_with('#') || IGNORED.contains(&name)
}

fn unknown_option(shown: &str, name: &str) -> Error {
    let known = FLAGS.iter().map(|f| f.0).chain(VALUES.iter().map(|v| v.0));
    let nearest =
        known.min_by_key(|known| distance(known, name)).filter(|known| distance(known, name) <= name.len() / 2);
    let hint =
        nearest.map_or("stmount mount --help lists them".to_owned(), |known| format!("the nearest there is: {known}"));
    usage(format!("unknown mount option {shown:?}")).hint(hint)
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(Kind::Usage, what)
}

fn number(text: &str, radix: u32) -> Result<u32> {
    u32::from_str_radix(text, radix).map_err(|_| usage(format!("{text:?} is not a number")))
}

fn mask(text: &str) -> Result<u32> {
    let mask = number(text, 8).map_err(|_| usage(format!("{text:?} is not an octal number such as 022")))?;
    if mask > 0o777 { Err(usage(format!("{text:?} is over 777"))) } else { Ok(mask) }
}

fn text(text: &str) -> Result<String> {
    if text.is_empty() || text.contains('\0') { Err(usage("a name is missing")) } else { Ok(text.to_owned()) }
}

fn indexing(text: &str) -> Indexing {
    match text {
        "auto" => Indexing::Auto,
        "none" => Indexing::Nowhere,
        dir => Indexing::Dir(dir.into()),
    }
}

/// Whether it is the other end.
fn where_to(text: &str) -> Result<bool> {
    match text {
        "local" => Ok(false),
        "remote" => Ok(true),
        _ => Err(usage("fsync is local or remote")),
    }
}

fn offline(text: &str) -> Result<Offline> {
    match text {
        "auto" => Ok(Offline::Auto),
        "only" => Ok(Offline::Only),
        _ => Err(usage("offline is auto or only")),
    }
}

fn rate(text: &str) -> Result<u64> {
    match size(text)? {
        0 => Err(usage("nothing would ever come")),
        rate => Ok(rate),
    }
}

fn mirror(text: &str) -> Result<String> {
    match remote::scheme(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(usage(format!("{text:?} is no address")).hint("mirror=https://host/dir/game.st")),
    }
}

fn hostkey(text: &str) -> Result<HostKey> {
    match text {
        "known" => Ok(HostKey::Known),
        "accept-new" => Ok(HostKey::AcceptNew),
        print if print.starts_with("SHA256:") => Ok(HostKey::Only(print.trim_end_matches('=').to_owned())),
        _ => Err(usage("hostkey is known, accept-new, or a fingerprint: SHA256:…")),
    }
}

fn overlaying(text: String) -> Overlaying {
    if text == "tmp" { Overlaying::Tmp } else { Overlaying::Dir(text.into()) }
}

fn case(text: &str) -> Result<Case> {
    match text {
        "auto" => Ok(Case::Auto),
        "sensitive" => Ok(Case::Sensitive),
        "insensitive" => Ok(Case::Insensitive),
        _ => Err(usage(format!("{text:?} is none of sensitive, insensitive, auto"))),
    }
}

/// A time: `5s`, `500ms`, `2m`, `1h`; seconds without a unit.
fn seconds(text: &str) -> Result<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let bad = || usage(format!("{text:?} is not a time such as 5s, 500ms or 2m"));
    let unit: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(unit).map(Duration::from_millis).ok_or_else(bad)
}

/// A size in bytes: `4096`, `64k`, `512M`, `1G`, `2T`, also as `512MiB` or `512MB`; every unit is a power of 1024.
pub fn size(text: &str) -> Result<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit != "i" && unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(usage(format!("{text:?} is not a size such as 64k, 512M or 1G"))),
    };
    let number: u64 = number.parse().map_err(|_| usage(format!("{text:?} is not a size such as 64k, 512M or 1G")))?;
    number.checked_mul(1 << (10 * power)).ok_or_else(|| usage(format!("{text:?} is too large")))
}

/// How many letters must be changed, added, left out or swapped with their neighbour to come from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::trust::Level;

    fn parse(list: &str) -> Result<Options> {
        Options::parse(&[list])
    }

    #[test]
    fn the_generic_options_of_mount_and_fstab_do_nothing() {
        let fstab = "defaults,nofail,noauto,_netdev,x-systemd.automount,X-mount.mkdir=0755,user,comment=a b,relatime";
        assert_eq!(parse(fstab).unwrap(), Options::default());
        assert_eq!(parse("").unwrap(), Options::default());
    }

    #[test]
    fn who_follows_reads_only() {
        assert!(parse("follow").unwrap().read_only);
        assert!(parse("rw,follow").unwrap().read_only);
        assert_eq!(parse("follow,rw").unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn an_overlay_takes_changes() {
        assert_eq!(parse("overlay=tmp").unwrap().overlay, Some(Overlaying::Tmp));
        let options = parse(r"rw,overlay=a\,b").unwrap();
        assert_eq!(options.overlay, Some(Overlaying::Dir("a,b".into())));
        assert_eq!(options.when_to_commit().settle.as_secs(), 5);
        for bad in ["ro,overlay=x", "overlay=x,ro", "overlay=x,follow", "overlay", "overlay="] {
            assert_eq!(parse(bad).unwrap_err().kind(), Kind::Usage, "{bad}");
        }
    }

    #[test]
    fn files_of_keys_are_all_taken() {
        let options = parse(r"identity=a\,b,keyfile=c,password-file=d,identity=e").unwrap();
        assert_eq!(options.identities, [PathBuf::from("a,b"), "e".into()]);
        assert_eq!((options.keyfiles, options.password_files), (vec!["c".into()], vec!["d".into()]));
        assert_eq!(parse("identity=").unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn an_unknown_option_names_the_nearest_one() {
        for (wrong, nearest) in [
            ("allow_ohter", "allow-other"),
            ("cachsize=1G", "cachesize"),
            ("nosuidd", "nosuid"),
            ("redahead=1M", "readahead"),
        ] {
            let e = parse(wrong).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage);
            assert!(e.advice().unwrap().ends_with(nearest), "{wrong}: {:?}", e.advice());
            assert!(e.to_string().contains(wrong.split('=').next().unwrap()));
        }
        assert!(parse("zzzzz").unwrap_err().advice().unwrap().contains("--help"));
    }

    #[test]
    fn underscore_and_hyphen_are_the_same_and_the_last_word_counts() {
        let options =
            Options::parse(&["allow_other,default-permissions", "suid,nosuid,noexec,umask=022", "umask=0077"]).unwrap();
        assert!(options.allow_other && options.default_permissions && !options.suid && !options.exec);
        assert_eq!(options.umask, 0o077);
    }

    #[test]
    fn values_are_checked() {
        for bad in
            ["uid=x", "uid=-1", "umask=999", "umask=1777", "case=maybe", "cachesize=", "threads", "ro=1", "fsname="]
        {
            assert_eq!(parse(bad).unwrap_err().kind(), Kind::Usage, "{bad}");
        }
        let options = parse("uid=1000,gid=100,threads=3,case=insensitive,subtype=other,volname=A b").unwrap();
        assert_eq!((options.uid, options.gid, options.threads), (Some(1000), Some(100), Some(3)));
        assert!(options.policy().ignore_case);
    }

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in
            [("512M", 512 << 20), ("1G", 1 << 30), ("64k", 64 << 10), ("7", 7), ("2TiB", 2 << 40), ("8MB", 8 << 20)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "k", "1.5G", "1X", "-1", "99999999999T", "1ib"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mirrors_are_addresses_and_rates_are_sizes() {
        let options = parse(r"mirror=https://a/x\,y,mirror=s3://b/x,limit-rate=500k").unwrap();
        assert_eq!(options.archive.link.mirrors, ["https://a/x,y", "s3://b/x"]);
        assert_eq!(options.archive.link.rate, Some(500 << 10));
        for bad in ["mirror=a.st", "mirror=", "limit-rate=0", "limit-rate=fast", "limit-rate"] {
            assert_eq!(parse(bad).unwrap_err().kind(), Kind::Usage, "{bad}");
        }
    }

    #[test]
    fn trust_has_three_levels() {
        assert_eq!(parse("").unwrap().archive.trust, None);
        assert_eq!(parse("trust=low,trust=high").unwrap().archive.trust, Some(Level::High));
        for bad in ["trust", "trust=", "trust=High", "trust=none"] {
            assert_eq!(parse(bad).unwrap_err().kind(), Kind::Usage, "{bad}");
        }
    }

    #[test]
    fn the_time_of_a_commit_has_units() {
        for (text, seconds) in [("5", 5.0), ("5s", 5.0), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0)] {
            assert_eq!(parse(&format!("commit={text}")).unwrap().when_to_commit().after.as_secs_f64(), seconds);
        }
        for bad in ["", "s", "5x", "-1", "99999999999999h"] {
            assert!(parse(&format!("commit={bad}")).is_err(), "{bad}");
        }
    }
    #[test]
    fn a_comma_behind_a_backslash_is_part_of_the_value() {
        let options = parse(r"fsname=a\,b\\c,noexec").unwrap();
        assert_eq!(options.fsname.unwrap(), "a,b\\c");
        assert!(!options.exec);
    }
}
