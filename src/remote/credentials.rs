//! Who somebody is to a server: what the address says, then what stands in `.netrc`, then what a person answers.

use crate::key::Secret;
use std::path::{Path, PathBuf};
use url::Url;
use zeroize::Zeroizing;

/// A name and a password for a host.
#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub password: Option<Secret>,
}

impl Login {
    /// What an address says of who asks, which is taken out of it; else what `.netrc` says of its host. A name without a
    /// password is what the address says and `.netrc` does not know.
    pub fn of(url: &mut Url) -> Option<Self> {
        let plain = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(plain);
        let password = url.password().map(|text| Secret::new(plain(text).into_bytes()));
        let host = url.host_str().unwrap_or_default().to_owned();
        let _ = (url.set_username(""), url.set_password(None));
        match (user, password) {
            (Some(user), Some(password)) => Some(Self { user, password: Some(password) }),
            (user, _) => {
                let known = Netrc::of_user().and_then(|netrc| netrc.login(&host, user.as_deref()));
                known.or_else(|| user.map(|user| Self { user, password: None }))
            }
        }
    }
}

/// A file of this user, of settings or secrets, where it is there and has at most so many bytes.
pub fn small_file(path: &Path, most: u64) -> Option<Zeroizing<Vec<u8>>> {
    let is_small = path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= most);
    if is_small { std::fs::read(path).ok().map(Zeroizing::new) } else { None }
}

/// The file of logins that curl, ftp and git read.
pub struct Netrc(Zeroizing<String>);

/// A file that is longer is none.
const MOST: u64 = 1 << 20;

impl Netrc {
    /// That of this user: `$NETRC`, or `.netrc` in the home directory.
    pub fn of_user() -> Option<Self> {
        let named = std::env::var_os("NETRC").map(PathBuf::from);
        let path = named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".netrc")))?;
        let text = String::from_utf8(small_file(&path, MOST)?.to_vec()).ok()?;
        Some(Self(text.into()))
    }

    /// The login for a host, or that for all others.
    pub fn login(&self, host: &str, user: Option<&str>) -> Option<Login> {
        let mut found: Option<Login> = None;
        let mut applies = false;
        let mut words = self.0.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace());
        while let Some(word) = words.next() {
            match word {
                "machine" | "default" => {
                    if applies && found.as_ref().is_some_and(|login| user.is_none_or(|user| user == login.user)) {
                        return found;
                    }
                    found = None;
                    applies = word == "default" || words.next().is_some_and(|name| name.eq_ignore_ascii_case(host));
                }
                "login" | "user" => {
                    let user = words.next()?.to_owned();
                    let password = found.take().and_then(|login| login.password);
                    found = Some(Login { user, password });
                }
                "password" => {
                    let password = Some(Secret::new(words.next()?.as_bytes().to_vec()));
                    let user = found.take().map_or_else(|| user.unwrap_or_default().to_owned(), |login| login.user);
                    found = Some(Login { user, password });
                }
                // It ends with an empty line, which words do not show: nothing behind it is taken.
                "macdef" => break,
                _ => {}
            }
        }
        found.filter(|login| applies && user.is_none_or(|user| user == login.user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str, host: &str, user: Option<&str>) -> Option<(String, String)> {
        let login = Netrc(text.to_owned().into()).login(host, user)?;
        let password = login.password.map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap());
        Some((login.user, password.unwrap_or_default()))
    }

    #[test]
    fn the_login_of_a_host_or_of_all_others() {
        let text = "machine a.example login me password one\n# machine b login x\nmachine b.example\n  login you\n  password two\ndefault login any password three\n";
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(login(text, "A.example", None), pair("me", "one"));
        assert_eq!(login(text, "b.example", Some("you")), pair("you", "two"));
        assert_eq!(login(text, "b.example", Some("other")), None);
        assert_eq!(login(text, "c.example", None), pair("any", "three"));
        assert_eq!(login("machine a login me", "b", None), None);
        assert_eq!(login("machine a password", "a", None), None);
    }

    #[test]
    fn of_several_for_one_host_the_one_for_the_user() {
        let text = "machine a login me password one machine a login you password two";
        assert_eq!(login(text, "a", Some("you")).unwrap().1, "two");
        assert_eq!(login(text, "a", None).unwrap().1, "one");
    }
}
