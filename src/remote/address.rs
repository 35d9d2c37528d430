//! Addresses: what is one, what it is called, and what of it may be shown.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;
use std::path::Path;
use url::Url;

/// Schemes of addresses.
const SCHEMES: &[&str] = &["http", "https", "webdav", "webdavs", "s3", "sftp", "ftp", "ftps", "ftpes"];

/// What stands in a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The scheme of an address in lower case, where it is one of those known here.
pub fn scheme(text: &str) -> Option<&'static str> {
    let (scheme, _) = text.split_once("://")?;
    SCHEMES.iter().copied().find(|known| scheme.eq_ignore_ascii_case(known))
}

/// The address by which a web server is asked, and whether it is one of WebDAV.
pub fn over_http(text: &str) -> (Cow<'_, str>, bool) {
    match scheme(text) {
        Some(scheme @ ("webdav" | "webdavs")) => {
            let rest = &text[scheme.len()..];
            (format!("http{}{rest}", &scheme["webdav".len()..]).into(), true)
        }
        _ => (text.into(), false),
    }
}

/// The address that a path is, if it is one.
pub fn is_address(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| scheme(text).is_some())
}

/// An address without what is secret in it: password, and the values of its query, which may be signatures.
pub fn shown(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    let _ = url.set_password(None);
    url.set_fragment(None);
    if url.query().is_some() {
        let names: Vec<_> = url.query_pairs().map(|(name, _)| format!("{name}=…")).collect();
        url.set_query(None);
        return format!("{url}?{}", names.join("&"));
    }
    url.into()
}

/// Whether what is at an address is a folder, by its path.
pub fn is_folder(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.path().is_empty() || url.path().ends_with('/'))
}

/// Whether a password stands in it.
pub fn has_password(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.password().is_some())
}

/// The name of what is there: the last part of the path.
pub fn name_of(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let last = url.path_segments()?.rfind(|part| !part.is_empty())?;
    let name = percent_encoding::percent_decode_str(last).decode_utf8_lossy().replace(['/', '\0'], "_");
    (name != "." && name != "..").then_some(name)
}

/// The address of what is called so in the same place. A name leads nowhere else.
pub fn beside(text: &str, name: &str) -> Option<String> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return None;
    }
    let mut url = Url::parse(text).ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().pop();
    go_down(&mut url, name);
    Some(url.into())
}

/// Adds a path to an address, whatever is in its names: one leads right below the other, and is just that one.
pub fn go_down(url: &mut Url, path: &str) {
    let mut text = url.path().trim_end_matches('/').to_owned();
    for part in path.split('/').filter(|part| !matches!(*part, "" | "." | "..")) {
        text.push('/');
        text.extend(utf8_percent_encode(part, PLAIN));
    }
    url.set_path(&text);
}

/// Whether two addresses are of one server: scheme, host and port.
pub fn is_same_server(a: &str, b: &str) -> bool {
    let origin = |text: &str| Url::parse(text).ok().map(|url| url.origin()).filter(|origin| origin.is_tuple());
    origin(a).zip(origin(b)).is_some_and(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_begins_with_a_scheme() {
        for (text, is) in
            [("https://a/b.st", true), ("HTTP://a", true), ("a.st", false), ("c:/x", false), ("x://y", false)]
        {
            assert_eq!(is_address(Path::new(text)).is_some(), is, "{text}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        for (text, shows) in [
            ("https://me:secret@host/a.st", "https://me@host/a.st"),
            ("https://host/a.st?X-Sig=secret&e=1#secret", "https://host/a.st?X-Sig=…&e=…"),
            ("http://host:8080/a%20b", "http://host:8080/a%20b"),
        ] {
            assert_eq!(shown(text), shows);
        }
    }

    #[test]
    fn what_is_beside_is_in_the_same_place() {
        let of = |name| beside("https://me@host/dir/a.001?sig=x", name);
        assert_eq!(of("a b.002").as_deref(), Some("https://me@host/dir/a%20b.002?sig=x"));
        for bad in ["", "..", ".", "x/y"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_name_has_an_address_of_its_own() {
        let of = |path| {
            let mut url = Url::parse("http://host/a%20b/").unwrap();
            go_down(&mut url, path);
            url.path().to_owned()
        };
        assert_eq!(of("x/y z"), "/a%20b/x/y%20z");
        assert_eq!(of("line\nfeed"), "/a%20b/line%0Afeed");
        assert_eq!(of("%2e%2e/\\/a?b#c"), "/a%20b/%252e%252e/%5C/a%3Fb%23c");
        assert_eq!(of("../.././x"), "/a%20b/x", "up it goes nowhere");
        assert_eq!(of(""), "/a%20b");
    }

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        for (text, name) in [
            ("https://host/dir/my%20game.st?x=1", Some("my game.st")),
            ("https://host/dir/", Some("dir")),
            ("https://host/", None),
            ("https://host/a%2F..%2Fb", Some("a_.._b")),
        ] {
            assert_eq!(name_of(text).as_deref(), name);
        }
    }
}
