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

/// The address by which a share of this folder opens a file.
pub fn below(folder: &str, path: &str) -> Option<String> {
    let mut url = Url::parse(&over_http(folder).0).ok()?;
    if scheme(folder) != Some("sftp") {
        let _ = (url.set_username(""), url.set_password(None));
        url.set_query(None);
    }
    go_down(&mut url, path);
    Some(url.into())
}

/// Parts `ADDRESS@STATE`. The `@` of who asks is none of these, and `%40` is part of a name.
pub fn with_state(text: &str) -> Option<(String, String)> {
    let (place, query) = text.split_at(text.find('?').unwrap_or(text.len()));
    let (dir, name) = place.rsplit_once('/')?;
    // Before the path there is only who asks, and whom.
    let is_path = place.split_once("://")?.1.contains('/');
    let (name, state) = name.rsplit_once('@').filter(|_| is_path)?;
    let state = percent_encoding::percent_decode_str(state).decode_utf8().ok()?;
    let is_one = !name.is_empty() && !state.is_empty();
    is_one.then(|| (format!("{dir}/{name}{query}"), state.into_owned()))
}

/// The folder that something is in, as an address, and its name there.
pub fn parted(text: &str) -> Option<(String, String)> {
    let mut url = Url::parse(text).ok()?;
    let last = url.path_segments()?.next_back().filter(|part| !part.is_empty())?;
    let name = percent_encoding::percent_decode_str(last).decode_utf8().ok()?.into_owned();
    if name == "." || name == ".." || name.contains(['/', '\0']) {
        return None;
    }
    url.path_segments_mut().ok()?.pop().push("");
    Some((url.into(), name))
}

/// The address by which a folder is written to: a server of the web takes things by WebDAV.
pub fn to_write(text: &str) -> Cow<'_, str> {
    match scheme(text) {
        Some(scheme @ ("http" | "https")) => {
            let rest = &text[scheme.len()..];
            format!("webdav{}{rest}", &scheme["http".len()..]).into()
        }
        _ => text.into(),
    }
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
    fn a_state_stands_behind_the_name_of_a_file() {
        for (text, parted) in [
            ("https://me@host/dir/x.st@17", Some(("https://me@host/dir/x.st", "17"))),
            ("https://host/a@b/x@y.st@before%20it", Some(("https://host/a@b/x@y.st", "before it"))),
            ("https://host/x.st@monday?sig=a@b", Some(("https://host/x.st?sig=a@b", "monday"))),
            ("https://me@host", None),
            ("https://me@host/", None),
            ("https://host/a@b/x.st", None),
            ("https://host/x.st%40y", None),
            ("https://host/@y", None),
            ("https://host/x.st@", None),
            ("https://host/x.st?a@b", None),
        ] {
            let expected = parted.map(|(file, state)| (file.to_owned(), state.to_owned()));
            assert_eq!(with_state(text), expected, "{text}");
        }
    }

    #[test]
    fn a_file_is_written_to_in_its_folder() {
        let of = |text| parted(text).map(|(folder, name)| (to_write(&folder).into_owned(), name));
        for (text, folder, name) in [
            ("https://me@host/dir/my%20game.st", "webdavs://me@host/dir/", "my game.st"),
            ("s3://bucket/x.st", "s3://bucket/", "x.st"),
            ("sftp://host/~/x.st", "sftp://host/~/", "x.st"),
        ] {
            assert_eq!(of(text), Some((folder.to_owned(), name.to_owned())));
        }
        for bad in ["s3://bucket", "https://host/dir/", "https://host/a%2F..%2Fb"] {
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
