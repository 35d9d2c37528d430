//! Buckets of an S3 server: objects by ranges, prefixes as folders.
//!
//! ```text
//!   s3://bucket/dir/x.7z     HEAD, then GET with Range and If-Match: its ETag
//!   s3://bucket/dir/         ListObjectsV2 with the delimiter /
//!   write                    PUT, in parts where it is large; a rename is a copy on the server's side and a DELETE
//! ```
//!
//! Who asks: the environment (AWS_ACCESS_KEY_ID …), a profile of ~/.aws, or the address and .netrc; nobody, where none of them
//! says anything: then requests are not signed, as public buckets want it. The times of objects are those of their upload.

use super::{
    Amend, Amended, Fetched, Holds, Item, Lines, Link, Login, Object, Seen, Set, Share, Writes, deepest, go_down, late,
    never, shown, small_file, soon, system, taken, wait_for,
};
use crate::error::{Error, Kind, Result};
use crate::key::Keys;
use crate::source::{Failure, Far, Go, ReadAt};
use crate::tree::{Kind as NodeKind, Time};
use futures_util::StreamExt;
use http::{HeaderValue, Method, Request, Response, header};
use opendal_core::{
    Buffer, EntryMode, ErrorKind, HttpBody, HttpTransport, Metadata, OperationContext, Operator, Writer, options,
};
use opendal_http_transport_reqwest::ReqwestTransport;
use opendal_service_s3::S3;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Url;

/// Bytes of a part of what is written. Ten thousand parts are the most: a file of 160 GB.
const PART: usize = 16 << 20;

/// Bytes that the server is asked to copy at once, and the least that is worth it: parts but the last have 5 MiB at least.
const COPY: u64 = 256 << 20;
const LEAST_COPY: u64 = 5 << 20;

/// A file of settings that is longer is none.
const SMALL: u64 = 1 << 20;

/// Entries of a listing; more are an error.
const ENTRIES: usize = 2_000_000;

/// A bucket, and who we are to it.
struct Bucket {
    operator: Operator,
    lines: Arc<Lines>,
    name: String,
    link: Link,
    /// Which server it is, where it is not that of AWS.
    endpoint: Option<String>,
    /// Nobody said who asks.
    is_unsigned: bool,
}

/// A folder in a bucket.
struct S3Share {
    bucket: Arc<Bucket>,
    /// Without a slash at either end.
    root: String,
}

struct S3Object {
    bucket: Arc<Bucket>,
    key: String,
    len: u64,
    tag: Option<String>,
}

pub fn open(text: &str, link: &Link, _: &dyn Keys) -> Result<Object> {
    let (bucket, key) = bucket(text, link)?;
    if key.is_empty() {
        return Ok(Object { leads_to_directory: true, ..Object::new(Arc::new(Nothing), 0) });
    }
    match bucket.object(&key) {
        // There are no directories: what begins with the name and a slash makes one.
        Err(e) if e.kind() == Kind::NotFound => {
            let share = S3Share { bucket, root: key };
            match share.list("").is_ok_and(|items| !items.is_empty()) {
                true => Ok(Object { leads_to_directory: true, ..Object::new(Arc::new(Nothing), 0) }),
                false => Err(e),
            }
        }
        object => object,
    }
}

pub fn share(text: &str, link: &Link, _: &dyn Keys) -> Result<Box<dyn Share>> {
    let (bucket, root) = bucket(text, link)?;
    Ok(Box::new(S3Share { bucket, root }))
}

/// The bucket of an address, and the key in it.
fn bucket(text: &str, link: &Link) -> Result<(Arc<Bucket>, String)> {
    let wrong = |what: &str| Error::new(Kind::Usage, format!("{}: {what}", shown(text))).hint("s3://BUCKET/KEY");
    let mut url = Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
    let login = Login::of(&mut url);
    let name = url.host_str().filter(|name| !name.is_empty()).ok_or_else(|| wrong("it names no bucket"))?.to_owned();
    let key = percent_encoding::percent_decode_str(url.path().trim_matches('/')).decode_utf8();
    let key = key.map_err(|_| wrong("the key is no UTF-8"))?.into_owned();
    if !key.is_empty() && key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(wrong("a part of the key is empty, or leads elsewhere"));
    }
    let endpoint = link.endpoint.clone().or_else(|| {
        let named = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].into_iter().find_map(|name| std::env::var(name).ok());
        named.or_else(|| of_profile("endpoint_url"))
    });
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| std::env::var(name).ok());
    let region = region.or_else(|| of_profile("region")).unwrap_or_else(|| "us-east-1".to_owned());
    let mut builder = S3::default().bucket(&name).region(&region);
    if let Some(endpoint) = &endpoint {
        builder = builder.endpoint(endpoint).disable_ec2_metadata();
    }
    let secret = login.as_ref().and_then(|login| login.password.as_ref());
    let is_unsigned = secret.is_none() && !has_credentials();
    match (&login, secret) {
        (Some(login), Some(secret)) => {
            builder = builder
                .access_key_id(&login.user)
                .secret_access_key(&String::from_utf8_lossy(secret.expose()))
                .disable_config_load();
        }
        _ if is_unsigned => builder = builder.skip_signature(),
        _ => {}
    }
    let refused = |e: opendal_core::Error| failure(&e, is_unsigned).error.within(shown(text));
    let lines = Arc::new(Lines::new(link)?);
    let transport = opendal_core::HttpTransporter::new(Newest(lines.clone()));
    let context = OperationContext::new().with_http_transport(transport);
    let operator = Operator::new(builder).map_err(refused)?.with_context(context);
    Ok((Arc::new(Bucket { operator, lines, name, link: link.clone(), endpoint, is_unsigned }), key))
}

/// Requests go over the connections that are good now.
struct Newest(Arc<Lines>);

impl HttpTransport for Newest {
    async fn fetch(&self, request: Request<Buffer>) -> opendal_core::Result<Response<HttpBody>> {
        let wanted = request.headers().get(header::IF_MATCH).filter(|_| request.method() == Method::GET).cloned();
        let answer = ReqwestTransport::new(self.0.client()).fetch(request).await?;
        // There are servers that do not heed the condition. What they send of another version is not taken.
        let found = answer.headers().get(header::ETAG);
        let is_other = |(wanted, found): (&HeaderValue, &HeaderValue)| bare(wanted) != bare(found);
        if answer.status().is_success() && wanted.as_ref().zip(found).is_some_and(is_other) {
            return Err(opendal_core::Error::new(ErrorKind::ConditionNotMatch, "it is another version"));
        }
        Ok(answer)
    }
}

/// A tag without its quotes: not every server has them.
fn bare(tag: &HeaderValue) -> &[u8] {
    tag.as_bytes().trim_ascii().strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\"")).unwrap_or(tag.as_bytes())
}

/// Whether somebody said who asks.
fn has_credentials() -> bool {
    let names = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"];
    let in_files = || aws_file("AWS_SHARED_CREDENTIALS_FILE", "credentials").is_some_and(|path| path.is_file());
    names.iter().any(|name| std::env::var_os(name).is_some()) || in_files() || std::env::var_os("AWS_PROFILE").is_some()
}

fn aws_file(named: &str, usual: &str) -> Option<PathBuf> {
    let path = std::env::var_os(named).map(PathBuf::from);
    path.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".aws").join(usual)))
}

/// What the profile of this user says in ~/.aws/config.
fn of_profile(wanted: &str) -> Option<String> {
    let text = small_file(&aws_file("AWS_CONFIG_FILE", "config")?, SMALL)?;
    let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    in_profile(&String::from_utf8_lossy(&text), &profile, wanted)
}

fn in_profile(text: &str, profile: &str, wanted: &str) -> Option<String> {
    let mut applies = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            applies = section.trim().trim_start_matches("profile ").trim() == profile;
        } else if let Some((_, value)) = line.split_once('=').filter(|(name, _)| applies && name.trim() == wanted) {
            return Some(value.trim().to_owned());
        }
    }
    None
}

impl Bucket {
    /// Waits for a sign of the server, and not longer than so long.
    fn hear<T>(&self, time: Duration, work: impl Future<Output = T>) -> Fetched<T> {
        let since = Instant::now();
        match wait_for(async { tokio::time::timeout(time, work).await }).map_err(system)? {
            Ok(heard) => {
                self.lines.are_heard(since);
                Ok(heard)
            }
            Err(_) => {
                self.lines.are_silent(since);
                Err(late())
            }
        }
    }

    /// Waits for an answer as long as there is patience: what was to be done may have been done, if none comes.
    fn once<T>(&self, key: &str, work: impl Future<Output = opendal_core::Result<T>>) -> Result<T> {
        self.answer(key, self.link.patience, work)
    }

    /// Waits for an answer to what may be asked again.
    fn read<T>(&self, key: &str, work: impl Future<Output = opendal_core::Result<T>>) -> Result<T> {
        self.answer(key, self.lines.quiet(), work)
    }

    fn answer<T>(&self, key: &str, time: Duration, work: impl Future<Output = opendal_core::Result<T>>) -> Result<T> {
        let heard = self.hear(time, work);
        let heard = heard.and_then(|answer| answer.map_err(|e| failure(&e, self.is_unsigned)));
        heard.map_err(|failure| failure.error.within(self.address(key)))
    }

    /// What a key is; asked for once more where a connection leads nowhere.
    fn facts(&self, key: &str) -> Result<Metadata> {
        match self.read(key, self.operator.stat(key)) {
            Err(e) if e.is_of_link() => self.read(key, self.operator.stat(key)),
            facts => facts,
        }
    }

    fn address(&self, key: &str) -> String {
        let mut url = Url::parse("s3://bucket/").expect("it is an address");
        let _ = url.set_host(Some(&self.name));
        go_down(&mut url, key);
        url.into()
    }

    fn object(self: &Arc<Self>, key: &str) -> Result<Object> {
        let facts = self.facts(key)?;
        let (len, tag) = (facts.content_length(), facts.etag().map(str::to_owned));
        // Buckets of two servers may have the same name.
        let stamp = tag.as_ref().map(|tag| [self.endpoint.as_deref().unwrap_or_default(), tag].concat());
        let far = S3Object { bucket: self.clone(), key: key.to_owned(), len, tag };
        Ok(Object { stamp, modified: modified(&facts), ..Object::new(Arc::new(far), len) })
    }
}

impl Far for S3Object {
    fn fetch(&self, range: Range<u64>, take: &mut dyn FnMut(&[u8]) -> Go) -> Fetched<()> {
        let bucket = &*self.bucket;
        let wanted = range.start..range.end.min(self.len);
        let reader = bucket
            .operator
            .reader_options(&self.key, options::ReaderOptions { if_match: self.tag.clone(), ..Default::default() });
        let begun = bucket.hear(bucket.lines.quiet(), async { reader.await?.into_bytes_stream(wanted).await })?;
        let mut stream = begun.map_err(|e| failure(&e, bucket.is_unsigned))?;
        loop {
            match bucket.hear(bucket.lines.quiet(), stream.next())? {
                None => return Ok(()),
                Some(Ok(piece)) => {
                    if take(&piece) == Go::Away {
                        return Ok(());
                    }
                }
                Some(Err(e)) => {
                    return Err(match e.get_ref().and_then(|e| e.downcast_ref::<opendal_core::Error>()) {
                        Some(e) => failure(e, bucket.is_unsigned),
                        None => soon(Kind::Unreachable, format!("the connection broke: {e}")),
                    });
                }
            }
        }
    }
}

/// A place of which nothing can be read.
struct Nothing;

impl Far for Nothing {
    fn fetch(&self, _: Range<u64>, _: &mut dyn FnMut(&[u8]) -> Go) -> Fetched<()> {
        Err(never(Kind::IsADirectory, "it is a directory"))
    }
}

impl S3Share {
    fn key(&self, path: &str) -> String {
        match (self.root.is_empty(), path.is_empty()) {
            (true, _) => path.to_owned(),
            (_, true) => self.root.clone(),
            _ => format!("{}/{path}", self.root),
        }
    }

    /// What the server calls a version that was seen.
    fn tag(&self, seen: &Seen) -> Option<String> {
        let endpoint = self.bucket.endpoint.as_deref().unwrap_or_default();
        seen.stamp.as_deref()?.strip_prefix(endpoint).map(str::to_owned)
    }

    /// Writes an object, whose front up to `from` is copied from what has the name. Nothing is to be seen of it before all is
    /// there; where an old one is named, only while it is the same still.
    fn write(
        &self,
        key: &str,
        (bytes, from): (&dyn ReadAt, u64),
        how: options::WriteOptions,
        old: Option<&Seen>,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let (bucket, len, tag) = (&self.bucket, bytes.len()?, old.and_then(|old| self.tag(old)));
        let mut writer = bucket.once(key, bucket.operator.writer_options(key, how))?;
        let mut send = || -> Result<()> {
            self.copy_front(key, &mut writer, from, tag.as_ref())?;
            let mut at = from;
            while at < len {
                let mut part = vec![0; PART.min(usize::try_from(len - at).unwrap_or(PART))];
                bytes.read_exact_at(at, &mut part)?;
                at += part.len() as u64;
                bucket.once(key, writer.write(part))?;
                told(at - from)?;
            }
            // There are servers that do not heed the condition.
            if let Some(old) = old {
                old.is_still(&bucket.object(key)?)?;
            }
            bucket.once(key, writer.close()).map(drop)
        };
        send().inspect_err(|_| {
            let _ = bucket.once(key, writer.abort());
        })
    }

    fn copy_front(&self, key: &str, writer: &mut Writer, len: u64, tag: Option<&String>) -> Result<()> {
        let mut at = 0;
        while at < len {
            // What is left at the end is too short for a part of its own.
            let end = if len - at < COPY * 2 { len } else { at + COPY };
            let range = (at..end).into();
            let range = options::ReadOptions { range, if_match: tag.cloned(), ..Default::default() };
            self.bucket.once(key, writer.copy_from_options(key, range))?;
            at = end;
        }
        Ok(())
    }

    fn entries(&self, path: &str) -> Result<Vec<Item>> {
        let (bucket, prefix) = (&*self.bucket, self.prefix(path));
        let mut lister = bucket.read(&prefix, bucket.operator.lister(&prefix))?;
        let mut items = Vec::new();
        while let Some(entry) = bucket.read(&prefix, async { lister.next().await.transpose() })? {
            let key = entry.path().trim_end_matches('/');
            let Some(name) = key.strip_prefix(&prefix).filter(|name| !name.is_empty() && !name.contains('/')) else {
                continue;
            };
            if items.len() == ENTRIES {
                return Err(Error::new(Kind::Limit, format!("{path}: more than {ENTRIES} entries")));
            }
            items.push(item(name, entry.metadata()));
        }
        Ok(items)
    }

    /// The key of a directory, as servers know it; nothing for all of the bucket.
    fn prefix(&self, path: &str) -> String {
        let key = self.key(path);
        if key.is_empty() { key } else { key + "/" }
    }
}

impl Share for S3Share {
    fn list(&self, path: &str) -> Result<Vec<Item>> {
        match self.entries(path) {
            Err(e) if e.is_of_link() => self.entries(path),
            items => items,
        }
    }

    fn look(&self, path: &str) -> Result<Item> {
        let key = self.key(path);
        let facts = self.bucket.facts(&key)?;
        Ok(item(path.rsplit('/').next().unwrap_or(path), &facts))
    }

    fn open(&self, path: &str) -> Result<(String, Object)> {
        let key = self.key(path);
        Ok((self.bucket.address(&key), self.bucket.object(&key)?))
    }

    fn writes(&self) -> Option<&dyn Writes> {
        Some(self)
    }
}

impl Writes for S3Share {
    fn holds(&self) -> Holds {
        Holds::default()
    }

    fn put(&self, path: &str, bytes: &dyn ReadAt, _: &Set, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        self.write(&self.key(path), (bytes, 0), options::WriteOptions::default(), None, told)
    }

    fn create(&self, path: &str, bytes: &dyn ReadAt, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        let (bucket, key) = (&self.bucket, self.key(path));
        let is_taken = || Err(taken().within(bucket.address(&key)));
        match bucket.once(&key, bucket.operator.stat(&key)) {
            Ok(_) => return is_taken(),
            Err(e) if e.kind() != Kind::NotFound => return Err(e),
            Err(_) => {}
        }
        let only_new = options::WriteOptions { if_not_exists: true, ..Default::default() };
        match self.write(&key, (bytes, 0), only_new, None, told) {
            Err(e) if e.kind() == Kind::Changed => is_taken(),
            Err(e) if e.kind() == Kind::Unsupported => {
                log::info!("{}: {e}: who comes in the same moment is not seen", bucket.address(&key));
                self.write(&key, (bytes, 0), options::WriteOptions::default(), None, told)
            }
            written => written,
        }
    }

    fn amend(&self, path: &str, amend: &Amend<'_>, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<Amended> {
        let (key, len) = (self.key(path), amend.bytes.len()?);
        let from = if amend.from < LEAST_COPY { 0 } else { amend.from };
        let only_it = options::WriteOptions { if_match: self.tag(amend.old), ..Default::default() };
        let (from, written) = match self.write(&key, (amend.bytes, from), only_it, Some(amend.old), told) {
            Err(e) if e.kind() == Kind::Unsupported => {
                log::info!("{}: {e}: it is looked at before it is replaced, and no more", self.bucket.address(&key));
                (0, self.write(&key, (amend.bytes, 0), options::WriteOptions::default(), Some(amend.old), told))
            }
            written => (from, written),
        };
        written.map(|()| Amended { sent: len.saturating_sub(from), whole: from < amend.from })
    }

    fn make_dir(&self, path: &str) -> Result<()> {
        let prefix = self.prefix(path);
        self.bucket.once(&prefix, self.bucket.operator.create_dir(&prefix))
    }

    fn remove(&self, path: &str) -> Result<()> {
        let key = self.key(path);
        self.bucket.once(&key, self.bucket.operator.delete(&key))
    }

    fn remove_dir(&self, path: &str) -> Result<()> {
        match self.list(path)?.is_empty() {
            true => {
                let prefix = self.prefix(path);
                self.bucket.once(&prefix, self.bucket.operator.delete(&prefix))
            }
            false => Err(Error::new(Kind::NotEmpty, format!("{path}: the directory is not empty"))),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (bucket, old, new) = (&*self.bucket, self.key(from), self.key(to));
        let inside = self.list(from)?;
        if inside.is_empty() {
            match bucket.facts(&old) {
                Ok(facts) if facts.is_file() => {
                    bucket.once(&old, bucket.operator.copy(&old, &new))?;
                    return bucket.once(&old, bucket.operator.delete(&old));
                }
                Err(e) if e.kind() != Kind::NotFound => return Err(e),
                // There is nothing but its marker, if that: then the prefix is what is renamed.
                _ => {
                    let prefix = self.prefix(from);
                    bucket.facts(&prefix)?;
                }
            }
        }
        self.make_dir(to)?;
        for item in inside {
            self.rename(&format!("{from}/{}", item.name), &format!("{to}/{}", item.name))?;
        }
        self.remove_dir(from)
    }
}

fn item(name: &str, facts: &Metadata) -> Item {
    match facts.mode() {
        EntryMode::DIR => Item::new(name, NodeKind::Directory),
        _ => Item { len: Some(facts.content_length()), modified: modified(facts), ..Item::new(name, NodeKind::File) },
    }
}

fn modified(facts: &Metadata) -> Option<Time> {
    let time = facts.last_modified()?.into_inner();
    Some(Time { secs: time.as_second(), nanos: time.subsec_nanosecond().unsigned_abs() })
}

/// What an error means here. Its own text names requests with all of their headers, so that only the kind of it and what
/// the server said are told.
fn failure(e: &opendal_core::Error, is_unsigned: bool) -> Failure {
    // What answers a HEAD has no words.
    let what = || match said(e.message()) {
        words if words.is_empty() => "the server refuses it, and does not say why".to_owned(),
        words => format!("the server says: {words}"),
    };
    match e.kind() {
        _ if e.message().contains("\"NoSuchBucket\"") => never(Kind::NotFound, "there is no such bucket"),
        ErrorKind::NotFound => never(Kind::NotFound, "there is nothing of this name"),
        ErrorKind::PermissionDenied => {
            let hint = match is_unsigned {
                true => {
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or a profile in ~/.aws/credentials"
                }
                false => "other keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            };
            let failure = never(Kind::NotLetIn, "the server does not let in who asks");
            Failure { error: failure.error.hint(hint), ..failure }
        }
        ErrorKind::ConditionNotMatch => never(Kind::Changed, "it was changed on the server while it was open"),
        ErrorKind::RangeNotSatisfied => never(Kind::Changed, "it is shorter on the server than it was"),
        ErrorKind::IsADirectory => never(Kind::IsADirectory, what()),
        ErrorKind::NotADirectory => never(Kind::NotADirectory, what()),
        ErrorKind::RateLimited => soon(Kind::Unreachable, what()),
        ErrorKind::ConfigInvalid => never(Kind::Usage, e.message().to_owned()),
        ErrorKind::Unsupported => never(Kind::Unsupported, what()),
        _ if e.is_temporary() => {
            soon(Kind::Unreachable, deepest(e).map_or_else(what, |why| format!("the server cannot be reached: {why}")))
        }
        _ => soon(Kind::Io, what()),
    }
}

/// Code and message of an answer in XML, of which the library shows its own form.
fn said(text: &str) -> String {
    let field = |name: &str| {
        let (_, behind) = text.split_once(&format!("{name}: \""))?;
        behind.split_once('"').map(|(value, _)| value).filter(|value| !value.is_empty())
    };
    let words: Vec<_> = ["code", "message"].into_iter().filter_map(field).collect();
    if words.is_empty() { text.to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_of_this_user_and_no_other() {
        let text = "[default]\nregion = eu-1\n[profile work]\nendpoint_url=https://x\nregion=eu-2\n";
        assert_eq!(in_profile(text, "default", "region").as_deref(), Some("eu-1"));
        assert_eq!(in_profile(text, "work", "region").as_deref(), Some("eu-2"));
        assert_eq!(in_profile(text, "default", "endpoint_url"), None);
    }

    #[test]
    fn what_the_server_said_is_told_in_its_words() {
        let text = r#"S3Error { code: "SlowDown", message: "Reduce it", resource: "/b", request_id: "" }"#;
        assert_eq!(said(text), "SlowDown, Reduce it");
        assert_eq!(said("nothing known"), "nothing known");
    }

    #[test]
    fn an_address_names_a_bucket_and_a_key_that_leads_nowhere_else() {
        let of = |text| bucket(text, &Link::default()).map(|(bucket, key)| (bucket.name.clone(), key));
        assert_eq!(of("s3://b/a%20b/c.st").unwrap(), ("b".to_owned(), "a b/c.st".to_owned()));
        assert_eq!(of("s3://b").unwrap(), ("b".to_owned(), String::new()));
        for bad in ["s3://", "s3://b/a//b"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
