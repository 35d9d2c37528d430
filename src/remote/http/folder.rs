//! Folders of a web server: pages, lists, and shares of WebDAV.

use super::super::{
    Item, Link, Object, Share, Writes, asks_for_list, go_down, http_date, late, of_dav, of_html, of_json, shown,
};
use super::dav::{self, Dav};
use super::{END, LARGEST_PAGE, Server, object, refused, server};
use crate::error::{Error, Kind, Result};
use crate::key::{Keys, NoKeys};
use crate::pool::lock;
use crate::tree::Kind as NodeKind;
use reqwest::{Method, Url, header};
use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Opens a folder. `is_dav` says that it is a share of WebDAV, and not pages for people.
pub fn share(text: &str, is_dav: bool, link: &Link, keys: &dyn Keys) -> Result<Box<dyn Share>> {
    let (server, mut url) = server(text, link)?;
    url.set_query(None);
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push("");
    }
    let share = HttpShare { server, root: url, is_dav, dav: Dav::default(), first: Mutex::default() };
    *lock(&share.first) = Some(share.page("", None, keys)?);
    Ok(Box::new(share))
}

/// A folder of a server.
pub(super) struct HttpShare {
    pub(super) server: Arc<Server>,
    /// With a slash at its end.
    root: Url,
    is_dav: bool,
    pub(super) dav: Dav,
    /// The page of the root from when it was opened, for who lists it first.
    pub(super) first: Mutex<Option<Page>>,
}

/// What a server sent of a directory.
pub(super) struct Page {
    text: String,
    is_json: bool,
    /// There are bytes in it that are no text.
    is_lossy: bool,
    /// Where it is.
    base: Url,
}

impl HttpShare {
    pub(super) fn url(&self, path: &str, is_dir: bool) -> Url {
        let mut url = self.root.clone();
        go_down(&mut url, path);
        if is_dir && let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push("");
        }
        url
    }

    /// The page of a directory, and where it is.
    fn page(&self, path: &str, query: Option<&str>, keys: &dyn Keys) -> Result<Page> {
        let mut url = self.url(path, true);
        url.set_query(query);
        let shown = shown(url.as_str());
        let ask = || match self.is_dav {
            true => dav::propfind(self, &url),
            false => {
                Ok(self.server.ask(Method::GET, &url)?.header(header::ACCEPT, "application/json, text/html;q=0.9"))
            }
        };
        let begun = Instant::now();
        let mut response = self.server.let_in(ask, keys, &shown)?;
        if !response.status().is_success() {
            return Err(refused(&response).error.within(&shown));
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_json = kind.is_some_and(|kind| kind.contains("json"));
        let base = response.url().clone();
        let body = self.server.body(&mut response, LARGEST_PAGE, begun);
        let (bytes, is_whole) = body.map_err(|failure| failure.error.within(&shown))?;
        if !is_whole {
            return Err(match bytes.len() as u64 > LARGEST_PAGE {
                true => Error::new(Kind::Limit, format!("{shown}: its listing is too long")),
                false => late().error.within(&shown),
            });
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(Page { is_lossy: matches!(text, Cow::Owned(_)), text: text.into_owned(), is_json, base })
    }
}

impl Share for HttpShare {
    fn list(&self, path: &str) -> Result<Vec<Item>> {
        let first = if path.is_empty() { lock(&self.first).take() } else { None };
        let mut page = first.map_or_else(|| self.page(path, None, &NoKeys), Ok)?;
        if !self.is_dav && !page.is_json && asks_for_list(&page.text) {
            page = Page { base: page.base, ..self.page(path, Some("ls"), &NoKeys)? };
        }
        let Page { text, is_json, is_lossy, base } = page;
        let items = match (self.is_dav, is_json) {
            (true, _) => of_dav(&text, &base),
            (false, true) => of_json(&text),
            (false, false) => of_html(&text, &base),
        };
        let mut items = items.ok_or_else(|| {
            Error::new(Kind::Unsupported, format!("{}: it is no listing of a directory", shown(base.as_str())))
        })?;
        // What is no text in a name can be asked for by nobody.
        items.retain(|item| !is_lossy || !item.name.contains(char::REPLACEMENT_CHARACTER));
        Ok(items)
    }

    fn look(&self, path: &str) -> Result<Item> {
        let url = self.url(path, false);
        let shown = shown(url.as_str());
        let response = self.server.let_in(|| self.server.ask(Method::HEAD, &url), &NoKeys, &shown)?;
        if !response.status().is_success() {
            return Err(refused(&response).error.within(&shown));
        }
        let told = |name: header::HeaderName| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let modified = told(header::LAST_MODIFIED).and_then(|date| http_date(&date));
        // Some do not tell it without sending something, or not of what is empty.
        let len = match told(header::CONTENT_LENGTH).and_then(|len| len.parse().ok()) {
            Some(len) => len,
            None => self.server.first(&url, "bytes=0-0", &NoKeys, &shown)?.len,
        };
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        Ok(Item { len: Some(len), modified, ..Item::new(name, NodeKind::File) })
    }

    fn open(&self, path: &str) -> Result<(String, Object)> {
        let url = self.url(path, false);
        let shown = shown(url.as_str());
        // Most files are read from their front.
        let answer = self.server.first(&url, &format!("bytes=0-{}", END - 1), &NoKeys, &shown)?;
        Ok((url.to_string(), object(self.server.clone(), url, answer)))
    }

    fn writes(&self) -> Option<&dyn Writes> {
        self.is_dav.then_some(self as &dyn Writes)
    }
}
