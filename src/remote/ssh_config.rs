//! What `~/.ssh/config` says of a host: where it is and who somebody is to it. Of the rest nothing is done, and nothing in it
//! is run.

use super::{matches, small_file};
use std::path::{Path, PathBuf};

/// A file that is longer is none.
const MOST: u64 = 1 << 20;

/// Of each the first that is said counts, but for keys, which are all tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostConfig {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub identities: Vec<String>,
    identities_only: Option<bool>,
    jump: Option<bool>,
}

impl HostConfig {
    /// What the files of this user and of the system say of a host, by the name that somebody gave it.
    pub fn of(alias: &str) -> Self {
        let mut config = Self::default();
        let of_user = home().map(|home| home.join(".ssh/config"));
        for path in [of_user, Some("/etc/ssh/ssh_config".into())].into_iter().flatten() {
            if let Some(text) = small_file(&path, MOST) {
                config.read(&String::from_utf8_lossy(&text), alias);
            }
        }
        config
    }

    /// Only the keys that are named are tried, also of those in an agent.
    pub fn is_identities_only(&self) -> bool {
        self.identities_only.unwrap_or(false)
    }

    /// Another host or a program is said to lead there, which is not done here.
    pub fn is_behind_another(&self) -> bool {
        self.jump.unwrap_or(false)
    }

    /// Files with keys, in the order in which they are tried.
    pub fn identity_files(&self, host: &str, user: &str) -> Vec<PathBuf> {
        let Some(home) = home() else { return Vec::new() };
        if self.identities.is_empty() {
            return ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| home.join(".ssh").join(name)).to_vec();
        }
        self.identities.iter().map(|text| expanded(text, &home, host, user)).collect()
    }

    fn read(&mut self, text: &str, alias: &str) {
        let mut applies = true;
        for line in text.lines() {
            let Some((word, values)) = words(line) else { continue };
            let value = values.first().map(String::as_str).unwrap_or_default();
            match word.to_ascii_lowercase().as_str() {
                "host" => applies = is_of(&values, alias),
                // What it asks may need a program to be run.
                "match" => applies = values.len() == 1 && value.eq_ignore_ascii_case("all"),
                _ if !applies || value.is_empty() => {}
                "hostname" => _ = self.host.get_or_insert_with(|| value.replace("%h", alias).replace("%%", "%")),
                "port" => self.port = self.port.or(value.parse().ok()),
                "user" => _ = self.user.get_or_insert_with(|| value.to_owned()),
                "identityfile" if !value.eq_ignore_ascii_case("none") => self.identities.push(value.to_owned()),
                "identitiesonly" => _ = self.identities_only.get_or_insert(value.eq_ignore_ascii_case("yes")),
                "proxyjump" | "proxycommand" => _ = self.jump.get_or_insert(!value.eq_ignore_ascii_case("none")),
                _ => {}
            }
        }
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// Whether a host is one of those that a block is for.
fn is_of(patterns: &[String], alias: &str) -> bool {
    let is_not = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(|not| matches(not, alias));
    !is_not && patterns.iter().any(|pattern| matches(pattern, alias))
}

fn expanded(text: &str, home: &Path, host: &str, user: &str) -> PathBuf {
    let (mut path, mut chars) = (String::new(), text.chars());
    let home = home.display().to_string();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next() {
                Some('d') => path.push_str(&home),
                Some('h') => path.push_str(host),
                Some('r') => path.push_str(user),
                Some(other) => path.push(other),
                None => {}
            },
            '~' if path.is_empty() => path.push_str(&home),
            c => path.push(c),
        }
    }
    path.into()
}

/// The first word of a line, and those behind it. Between them stand blanks or one `=`; words in quotes may hold blanks.
fn words(line: &str) -> Option<(&str, Vec<String>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let (mut values, mut value, mut is_quoted, mut is_open) = (Vec::new(), String::new(), false, false);
    for c in rest.chars() {
        match c {
            '"' => (is_quoted, is_open) = (!is_quoted, true),
            c if c.is_whitespace() && !is_quoted => {
                if is_open {
                    values.push(std::mem::take(&mut value));
                }
                is_open = false;
            }
            // A remark.
            '#' if !is_quoted && !is_open => break,
            c => {
                value.push(c);
                is_open = true;
            }
        }
    }
    if is_open {
        values.push(value);
    }
    Some((word, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str, alias: &str) -> HostConfig {
        let mut config = HostConfig::default();
        config.read(text, alias);
        config
    }

    #[test]
    fn the_first_that_is_said_of_a_host_counts() {
        let text = "Port 1000\nHost nas *.lan !old.lan\n  HostName=%h.example.org\n  User \"me too\" # remark\n  Port 22\n\
            IdentityFile ~/.ssh/nas\n\tidentityfile = %d/k%%_%r_%h\nIdentitiesOnly yes\nHost *\nUser other\nProxyJump hop\n";
        let nas = config(text, "nas");
        assert_eq!(nas.host.as_deref(), Some("nas.example.org"));
        assert_eq!((nas.user.as_deref(), nas.port), (Some("me too"), Some(1000)));
        assert!(nas.is_identities_only() && nas.is_behind_another());
        assert_eq!(expanded(&nas.identities[1], Path::new("/h"), "host", "u"), Path::new("/h/k%_u_host"));
        assert_eq!(expanded(&nas.identities[0], Path::new("/h"), "host", "u"), Path::new("/h/.ssh/nas"));
        assert_eq!(config(text, "old.lan").user.as_deref(), Some("other"));
        assert_eq!(config(text, "old.lan").host, None);
    }

    #[test]
    fn what_would_run_a_program_is_left_out() {
        let text = "Match exec \"touch /tmp/x\"\nUser evil\nMatch all\nPort 7\nProxyCommand none\n";
        let read = config(text, "a");
        assert_eq!((read.user.as_deref(), read.port, read.is_behind_another()), (None, Some(7), false));
        for odd in ["Host", "Port", "Port x", "=", "\"", "User \"open", "Host \"\"\nUser x"] {
            config(odd, "a");
        }
    }
}
