//! What names are shown as. Without Rock Ridge, as Linux shows them: of plain names the letters become small ones.

/// A name of Joliet: UTF-16, with a version, perhaps.
pub fn joliet(name: &[u8]) -> Vec<u8> {
    let units = name.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let text = text.strip_suffix(";1").filter(|rest| !rest.is_empty()).unwrap_or(&text);
    let bare = text.trim_end_matches('.');
    let kept = if bare.is_empty() { text } else { bare };
    kept.replace('/', "_").into_bytes()
}

/// A plain name: `README.TXT;1` is shown as `readme.txt`.
pub fn plain(name: &[u8]) -> Vec<u8> {
    let name = name.strip_suffix(b";1").filter(|rest| !rest.is_empty()).unwrap_or(name);
    let name = name.strip_suffix(b".").filter(|rest| !rest.is_empty()).unwrap_or(name);
    let shown = |byte: &u8| match byte {
        b';' | b'/' => b'.',
        byte => byte.to_ascii_lowercase(),
    };
    name.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_dots_at_the_end_go() {
        for (name, is) in
            [("README.TXT;1", "readme.txt"), ("FILE.;1", "file"), ("A;2", "a.2"), ("DIR", "dir"), (".", ".")]
        {
            assert_eq!(plain(name.as_bytes()), is.as_bytes(), "{name}");
        }
        for (name, is) in [("Ünï.txt;1", "Ünï.txt"), ("Name.", "Name"), ("...", "..."), ("a/b", "a_b"), ("☃", "☃")]
        {
            let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_be_bytes).collect();
            assert_eq!(joliet(&units), is.as_bytes(), "{name}");
        }
    }
}
