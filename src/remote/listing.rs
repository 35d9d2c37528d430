//! What servers tell of a directory: pages for people, and lists for programs.
//!
//! ```text
//!   HTML    nginx, Apache, lighttpd, python, copyparty …    links to what is right below; sizes that are exact, where they are
//!   JSON    nginx (autoindex_format json), caddy, copyparty
//!   XML     WebDAV: PROPFIND with the depth 1
//! ```

use super::Item;
use crate::tree::{Kind, Time};
use serde_json::Value;
use url::Url;

/// Entries of a page for people, at this address. Only links to what is right below it count: that leaves out the way up, the
/// ways to sort, and whatever else stands on the page. Nothing of a page that is no listing.
pub fn of_html(text: &str, base: &Url) -> Option<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    let mut rest = text;
    while let Some(at) = find_tag(rest) {
        rest = &rest[at..];
        let Some(end) = rest.find('>') else { break };
        let (tag, behind) = (&rest[..end], &rest[end + 1..]);
        rest = behind;
        let Some((name, is_dir)) = attribute(tag, "href").and_then(|href| below(&unescaped(href), base)) else {
            continue;
        };
        if items.iter().rev().take(4).any(|item| item.name == name) {
            // A picture and a name lead to the same.
            continue;
        }
        let own = &behind[..find_tag(behind).unwrap_or(behind.len())];
        let line = own.split_once("</").map_or("", |(_, line)| line).split('\n').next().unwrap_or("");
        let (modified, len) = facts(line);
        items.push(item(&name, is_dir, len, modified));
    }
    // An empty directory is told from any other page by what servers write above it.
    let is_listing = !items.is_empty() || ["Index of", "Directory listing"].iter().any(|words| text.contains(words));
    is_listing.then_some(items)
}

/// A file or a directory; a directory has no length.
fn item(name: &str, is_dir: bool, len: Option<u64>, modified: Option<Time>) -> Item {
    let kind = if is_dir { Kind::Directory } else { Kind::File };
    Item { len: len.filter(|_| !is_dir), modified, ..Item::new(name, kind) }
}

/// Where the next `<a` with something behind it is.
fn find_tag(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'<', bytes).find(|at| {
        bytes[at + 1..].first().is_some_and(|b| b.eq_ignore_ascii_case(&b'a'))
            && bytes.get(at + 2).is_some_and(u8::is_ascii_whitespace)
    })
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let lower = tag.to_ascii_lowercase();
    let at = lower.find(&format!("{name}="))? + name.len() + 1;
    let value = &tag[at..];
    match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split(quote).next(),
        _ => value.split([' ', '\t', '\n']).next(),
    }
}

/// The few entities that stand in addresses.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find(';').filter(|end| *end <= 10) else {
            out.push('&');
            rest = &rest[1..];
            continue;
        };
        let number = |text: &str, radix| u32::from_str_radix(text, radix).ok().and_then(char::from_u32);
        let sign = match &rest[1..end] {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            other => other.strip_prefix('#').and_then(|n| match n.strip_prefix(['x', 'X']) {
                Some(hex) => number(hex, 16),
                None => number(n, 10),
            }),
        };
        match sign {
            Some(sign) => out.push(sign),
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

/// What a path is made of. Servers differ in what they escape.
fn parts(url: &Url) -> Vec<Vec<u8>> {
    let parts = url.path().split('/').filter(|part| !part.is_empty());
    parts.map(|part| percent_encoding::percent_decode_str(part).collect()).collect()
}

/// The name that an address has right below another, and whether it is a directory.
fn below(href: &str, base: &Url) -> Option<(String, bool)> {
    let url = base.join(href).ok()?;
    if url.origin() != base.origin() || url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    let (mut parts, dir) = (parts(&url), parts(base));
    let name = String::from_utf8(parts.pop()?).ok()?;
    (base.path().ends_with('/') && parts == dir && !name.contains('/')).then(|| (name, url.path().ends_with('/')))
}

/// A date and an exact size behind a name: `30-Nov-2026 00:12   357049288`. A size like `341M` is none.
fn facts(line: &str) -> (Option<Time>, Option<u64>) {
    let words: Vec<&str> =
        line.split(|c: char| c.is_whitespace() || c == '<' || c == '>').filter(|w| !w.is_empty()).collect();
    let dated = words.windows(2).find_map(|pair| Some((date(pair[0])?, clock(pair[1])?)));
    let modified = dated.map(|(days, secs)| Time { secs: days * 86_400 + secs, nanos: 0 });
    let behind = words.iter().position(|word| clock(word).is_some()).map_or(&words[..0], |at| &words[at + 1..]);
    let len = behind.iter().find(|word| word.bytes().all(|b| b.is_ascii_digit())).and_then(|word| word.parse().ok());
    (modified, len)
}

/// Days since 1970 of `30-Nov-2026` or `2026-11-30`.
fn date(word: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let parts: Vec<&str> = word.split('-').collect();
    let [a, b, c] = parts[..] else { return None };
    let (year, month, day) = match MONTHS.iter().position(|name| b.eq_ignore_ascii_case(name)) {
        Some(month) => (c.parse().ok()?, month as i64 + 1, a.parse().ok()?),
        None => (a.parse().ok()?, b.parse().ok()?, c.parse().ok()?),
    };
    let is_one = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    is_one.then(|| Time::days_to(year, month, day))
}

/// Seconds of `00:12` or `00:12:30`.
fn clock(word: &str) -> Option<i64> {
    let parts: Vec<i64> = word.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    match parts[..] {
        [h, m] if h < 24 && m < 60 => Some(h * 3600 + m * 60),
        [h, m, s] if h < 24 && m < 60 && s < 61 => Some(h * 3600 + m * 60 + s),
        _ => None,
    }
}

/// `2026-11-30T00:12:30.5Z`, as far as whole seconds.
fn rfc3339(text: &str) -> Option<Time> {
    let (day, rest) = text.split_once('T')?;
    let end = rest.find(['Z', 'z', '+', '-', '.'])?;
    let zone = rest[end..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.get(..1)? {
        "Z" | "z" => 0,
        sign => {
            let offset = clock(zone.get(1..)?)?;
            if sign == "-" { -offset } else { offset }
        }
    };
    Some(Time { secs: date(day)? * 86_400 + clock(&rest[..end])? - offset, nanos: 0 })
}

/// A date as it stands in a header.
pub fn http_date(text: &str) -> Option<Time> {
    httpdate::parse_http_date(text).ok().map(Time::from)
}

/// Entries of a list for programs; nothing where it is none that is known here.
pub fn of_json(text: &str) -> Option<Vec<Item>> {
    let value: Value = serde_json::from_str(text).ok()?;
    if let (Some(dirs), Some(files)) = (value["dirs"].as_array(), value["files"].as_array()) {
        let of = |is_dir| move |entry: &Value| of_copyparty(entry, is_dir);
        return Some(dirs.iter().filter_map(of(true)).chain(files.iter().filter_map(of(false))).collect());
    }
    Some(value.as_array()?.iter().filter_map(entry).collect())
}

/// nginx: `{"name","type","mtime","size"}`; caddy: `{"name","is_dir","mod_time","size"}`.
fn entry(entry: &Value) -> Option<Item> {
    let name = entry["name"].as_str()?;
    let is_dir = entry["is_dir"].as_bool().unwrap_or(entry["type"] == "directory") || name.ends_with('/');
    let time = entry["mtime"].as_str().and_then(http_date);
    let modified = time.or_else(|| rfc3339(entry["mod_time"].as_str()?));
    let len = entry["size"].as_u64().filter(|_| !is_dir);
    Some(item(name.trim_end_matches('/'), is_dir, len, modified))
}

/// Whether a page has its list only for programs that run what is in it: copyparty, which gives it as JSON, too.
pub fn asks_for_list(text: &str) -> bool {
    text.contains("\"/.cpr/")
}

/// copyparty: `{"href","sz","ts"}`, names as in an address.
fn of_copyparty(entry: &Value, is_dir: bool) -> Option<Item> {
    let href = entry["href"].as_str()?.split('?').next()?.trim_end_matches('/');
    let name = percent_encoding::percent_decode_str(href).decode_utf8().ok()?.into_owned();
    let modified = entry["ts"].as_i64().map(|secs| Time { secs, nanos: 0 });
    Some(item(&name, is_dir, entry["sz"].as_u64(), modified))
}

/// Entries of an answer to PROPFIND, at this address. Nothing where that is a file.
pub fn of_dav(text: &str, base: &Url) -> Option<Vec<Item>> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(text);
    let (mut items, mut path, mut now) = (Vec::new(), Vec::<Vec<u8>>::new(), Told::default());
    let here = parts(base);
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                let name = tag.local_name().as_ref().to_ascii_lowercase();
                if name == b"response" {
                    now = Told::default();
                }
                now.is_dir |= name == b"collection";
                path.push(name);
            }
            Event::Empty(tag) => now.is_dir |= tag.local_name().as_ref().eq_ignore_ascii_case(b"collection"),
            Event::Text(text) => now.take(path.last(), &text.decode().ok()?),
            Event::GeneralRef(name) => {
                let sign = unescaped(&format!("&{};", name.decode().ok()?));
                now.take(path.last(), &sign);
            }
            Event::CData(text) => now.take(path.last(), &text.decode().ok()?),
            Event::End(_) if path.pop()? == b"response" => {
                let told = std::mem::take(&mut now);
                if !told.is_dir && base.join(told.href.trim()).is_ok_and(|url| parts(&url) == here) {
                    return None;
                }
                items.extend(told.item(base));
            }
            Event::Eof => return Some(items),
            _ => {}
        }
    }
}

/// What one answer of several says.
#[derive(Default)]
struct Told {
    href: String,
    len: String,
    modified: String,
    is_dir: bool,
}

impl Told {
    fn take(&mut self, tag: Option<&Vec<u8>>, text: &str) {
        match tag.map_or(&b""[..], Vec::as_slice) {
            b"href" => self.href.push_str(text),
            b"getcontentlength" => self.len.push_str(text),
            b"getlastmodified" => self.modified.push_str(text),
            _ => {}
        }
    }

    fn item(self, base: &Url) -> Option<Item> {
        let (name, ends_as_dir) = below(self.href.trim(), base)?;
        let is_dir = self.is_dir || ends_as_dir;
        let len = self.len.trim().parse().ok().filter(|_| !is_dir);
        Some(item(&name, is_dir, len, http_date(self.modified.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("http://host/a%20b/").unwrap()
    }

    fn entry(name: &str, is_dir: bool, len: Option<u64>, time: Option<i64>) -> Item {
        item(name, is_dir, len, time.map(|secs| Time { secs, nanos: 0 }))
    }

    const NOON: i64 = 1_795_996_800;

    #[test]
    fn pages_of_nginx_apache_and_python() {
        let nginx = r#"<h1>Index of /a b/</h1><hr><pre><a href="../">../</a>
<a href="sub/">sub/</a>                                  30-Nov-2026 00:00                   -
<a href="x%20%26%20y.zip">x &amp; y.zip</a>             30-Nov-2026 00:00           357049288
</pre>"#;
        assert_eq!(
            of_html(nginx, &base()).unwrap(),
            [entry("sub", true, None, Some(NOON)), entry("x & y.zip", false, Some(357_049_288), Some(NOON))]
        );
        let apache = r#"<table><tr><th><a href="?C=N;O=D">Name</a></th></tr>
<tr><td valign="top"><img src="/icons/back.gif" alt="[DIR]"></td><td><a href="/">Parent Directory</a></td></tr>
<tr><td><A HREF="/a%20b/one.st">one.st</A></td><td align="right">2026-11-30 00:00  </td><td align="right">341M</td></tr>
<tr><td><a href='two'>two</a></td><td align="right">2026-11-30 00:00  </td><td align="right"> 12 </td></tr></table>"#;
        assert_eq!(
            of_html(apache, &base()).unwrap(),
            [entry("one.st", false, None, Some(NOON)), entry("two", false, Some(12), Some(NOON))]
        );
        let python = "<ul>\n<li><a href=\"d/\">d/</a></li>\n<li><a href=\"f&#x27;s\">f's</a></li>\n</ul>";
        assert_eq!(of_html(python, &base()).unwrap(), [entry("d", true, None, None), entry("f's", false, None, None)]);
    }

    #[test]
    fn links_that_lead_elsewhere_are_no_entries() {
        for href in [
            "..",
            "../",
            "/",
            "/x",
            "http://other/a%20b/x",
            "x/y",
            "x?y",
            "#x",
            "mailto:a@b",
            "",
            ".",
            "./",
            "%2e%2e/",
            "a%2Fb",
            "javascript:x",
            "//other/a%20b/x",
            "https://host/a%20b/x",
            "%FF",
        ] {
            assert_eq!(of_html(&format!("<a href=\"{href}\">x</a>"), &base()), None, "{href}");
        }
        assert_eq!(of_html("<a href=\"x\">x</a> <a", &base()).unwrap().len(), 1);
        assert_eq!(of_html("<h1>Index of /</h1><a href=\"../\">../</a>", &base()), Some(Vec::new()));
    }

    #[test]
    fn lists_of_nginx_caddy_and_copyparty() {
        let nginx = r#"[{"name":"s","type":"directory","mtime":"Mon, 30 Nov 2026 00:00:00 GMT"},
            {"name":"f","type":"file","mtime":"Mon, 30 Nov 2026 00:00:00 GMT","size":5}]"#;
        let want = [entry("s", true, None, Some(NOON)), entry("f", false, Some(5), Some(NOON))];
        assert_eq!(of_json(nginx).unwrap(), want);
        let caddy = r#"[{"name":"s/","size":4096,"url":"./s/","mod_time":"2026-11-30T01:00:00.5+01:00","mode":1,"is_dir":true},
            {"name":"f","size":5,"url":"./f","mod_time":"2026-11-30T00:00:00Z","is_dir":false}]"#;
        assert_eq!(of_json(caddy).unwrap(), want);
        let copyparty =
            r#"{"dirs":[{"href":"s/","sz":0,"ts":1795996800}],"files":[{"href":"f","sz":5,"ts":1795996800}]}"#;
        assert_eq!(of_json(copyparty).unwrap(), want);
        assert_eq!(of_json("{\"x\":1}"), None);
        assert_eq!(of_json("<html>"), None);
    }

    #[test]
    fn an_answer_to_propfind() {
        let text = r#"<?xml version="1.0"?>
            <D:multistatus xmlns:D="DAV:">
            <D:response><D:href>/a%20b/</D:href><D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop></D:propstat></D:response>
            <D:response><D:href>http://host/a%20b/s/</D:href><D:propstat><D:prop><D:resourcetype><D:collection></D:collection></D:resourcetype>
                <D:getlastmodified>Mon, 30 Nov 2026 00:00:00 GMT</D:getlastmodified></D:prop></D:propstat></D:response>
            <D:response><D:href>/a%20b/x&amp;y</D:href><D:propstat><D:prop><D:resourcetype/><D:getcontentlength>5</D:getcontentlength>
                <D:getlastmodified>Mon, 30 Nov 2026 00:00:00 GMT</D:getlastmodified></D:prop></D:propstat></D:response></D:multistatus>"#;
        let want = [entry("s", true, None, Some(NOON)), entry("x&y", false, Some(5), Some(NOON))];
        assert_eq!(of_dav(text, &base()).unwrap(), want);
        assert_eq!(of_dav("<a><b></a>", &base()), None);
        let file = "<multistatus><response><href>/a%20b</href><propstat><prop><resourcetype/></prop></propstat></response></multistatus>";
        assert_eq!(of_dav(file, &base()), None, "a file is no folder");
    }
}
