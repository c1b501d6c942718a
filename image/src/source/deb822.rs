//! Debian's control format: stanzas of `Name: value` fields with continuation lines and comments, as deb822(5) has it.
//!
//! Streams, so that a Packages file of 50 MB costs the memory of one stanza. Must not interpret a field, and must not
//! trust the file's size: lines and stanzas have limits.

use std::io::{self, BufRead, Read};

/// Longest line and longest stanza accepted, in bytes. Debian's largest Release file has 0.3 MB in one stanza.
const LINE_LIMIT: u64 = 1 << 20;
const STANZA_LIMIT: usize = 8 << 20;

/// One stanza: its fields in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stanza {
    fields: Vec<(String, String)>,
}

impl Stanza {
    /// The value of a field by its name (case does not matter); the lines of a multi-line value end in `\n`, their
    /// leading blanks removed.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The words of a field; none where it is absent.
    pub fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).unwrap_or("").split_whitespace()
    }
}

/// Reads stanza after stanza.
pub struct Stanzas<R> {
    reader: R,
    line: u64,
}

impl<R: BufRead> Stanzas<R> {
    /// Starts at the reader's present place, counted as line 1.
    pub fn new(reader: R) -> Self {
        Self { reader, line: 0 }
    }

    /// The next stanza, `None` at the end. Malformed text is an error of kind `InvalidData` that names the line.
    pub fn next_stanza(&mut self) -> io::Result<Option<Stanza>> {
        let mut stanza = Stanza::default();
        let mut size = 0;
        let mut raw = Vec::new();
        loop {
            raw.clear();
            let read = self.reader.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut raw)?;
            self.line += 1;
            size += read;
            if read as u64 == LINE_LIMIT || size > STANZA_LIMIT {
                return Err(self.malformed("the line or stanza is too long"));
            }
            let text = String::from_utf8_lossy(&raw);
            let line = text.trim_end();
            if line.starts_with('#') {
                continue;
            }
            if line.is_empty() {
                match (read, stanza.fields.is_empty()) {
                    (0, true) => return Ok(None),
                    (_, false) => return Ok(Some(stanza)),
                    _ => {}
                }
            } else if line.starts_with([' ', '\t']) {
                let Some((_, value)) = stanza.fields.last_mut() else {
                    return Err(self.malformed("a continuation line without a field"));
                };
                if !value.is_empty() && !value.ends_with('\n') {
                    value.push('\n');
                }
                value.push_str(line.trim_start());
                value.push('\n');
            } else {
                let (name, value) = line.split_once(':').ok_or_else(|| self.malformed("a field without a colon"))?;
                stanza.fields.push((name.trim_end().to_owned(), value.trim_start().to_owned()));
            }
        }
    }

    fn malformed(&self, what: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {what}", self.line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &[u8]) -> io::Result<Vec<Stanza>> {
        let mut stanzas = Stanzas::new(text);
        std::iter::from_fn(|| stanzas.next_stanza().transpose()).collect()
    }

    #[test]
    fn comments_continuations_and_case() {
        let text = "\n# top\nTypes: deb\n# http://old.example\nURIs: http://mirror.example/debian\nSuites: a\n b\n\tc\r\n\n\n\nx: y";
        let stanzas = all(text.as_bytes()).unwrap();
        assert_eq!(stanzas.len(), 2);
        assert_eq!(stanzas[0].words("suites").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(stanzas[0].get("Suites"), Some("a\nb\nc\n"));
        assert_eq!(stanzas[0].get("uris"), Some("http://mirror.example/debian"));
        assert_eq!(stanzas[1].get("X"), Some("y"));
        assert_eq!(stanzas[1].get("absent"), None);
    }

    #[test]
    fn hostile_text_is_refused_with_its_line() {
        assert!(all(b"a: b\nnonsense\n").unwrap_err().to_string().starts_with("line 2: "));
        assert!(all(b" orphan\n").unwrap_err().to_string().contains("continuation"));
        assert!(all(&vec![b'x'; 2 << 20]).unwrap_err().to_string().contains("too long"));
        assert!(all("a: x\n".repeat(2 << 20).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = all(&bytes);
        }
    }
}
