//! The outer shell of a .deb: a Unix `ar` archive, read as a stream.
//!
//! Knows only what deb(5) uses: short names, decimal sizes, members padded to even offsets. Must not seek or hold a
//! member in memory.

use std::io::{self, Read};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;

/// Reads member after member.
#[derive(Debug)]
pub struct Archive<R> {
    inner: R,
    /// Bytes of the present member not yet read, and its padding.
    left: u64,
    padding: u64,
    /// Bytes read so far.
    position: u64,
}

/// The head of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, without the padding.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

impl<R: Read> Archive<R> {
    /// Reads the magic.
    ///
    /// # Errors
    /// When it is another one.
    pub fn new(mut inner: R) -> io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        inner.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(bad("it is no ar archive"));
        }
        Ok(Self { inner, left: 0, padding: 0, position: MAGIC.len() as u64 })
    }

    /// How many bytes of the archive have been read: right after a head, where its member begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Passes over what is left of the present member and reads the next head; `None` at the end.
    ///
    /// # Errors
    /// When the archive is damaged or ends early.
    pub fn next_member(&mut self) -> io::Result<Option<Member>> {
        let rest = self.left + self.padding;
        if io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink())? < self.left {
            return Err(bad("it ends in the middle of a member"));
        }
        self.position += rest + HEADER as u64;
        let mut head = Vec::with_capacity(HEADER);
        self.inner.by_ref().take(HEADER as u64).read_to_end(&mut head)?;
        if head.is_empty() {
            (self.left, self.padding) = (0, 0);
            return Ok(None);
        }
        if head.len() != HEADER || !head.ends_with(b"`\n") {
            return Err(bad("the head of a member is damaged"));
        }
        let text = |range: std::ops::Range<usize>| std::str::from_utf8(&head[range]).map(str::trim_end).unwrap_or("");
        let name = text(0..16).trim_end_matches('/').to_owned();
        let digits = text(48..58);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad("the size of a member is no number"));
        }
        let size = digits.parse().map_err(|_| bad("the size of a member is no number"))?;
        (self.left, self.padding) = (size, size % 2);
        Ok(Some(Member { name, size }))
    }
}

/// Reads the present member.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(bad("it ends in the middle of a member"));
        }
        self.left -= read as u64;
        self.position += read as u64;
        Ok(read)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
pub(crate) fn write_member(archive: &mut Vec<u8>, name: &str, content: &[u8]) {
    if archive.is_empty() {
        archive.extend_from_slice(MAGIC);
    }
    let head = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, content.len());
    archive.extend_from_slice(head.as_bytes());
    archive.extend_from_slice(content);
    if content.len() % 2 == 1 {
        archive.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut archive = Archive::new(bytes)?;
        let mut members = Vec::new();
        while let Some(member) = archive.next_member()? {
            let mut content = Vec::new();
            archive.read_to_end(&mut content)?;
            members.push((member.name, content));
        }
        Ok(members)
    }

    #[test]
    fn members_of_odd_and_even_length() {
        let mut archive = Vec::new();
        write_member(&mut archive, "one/", b"odd");
        write_member(&mut archive, "two", b"even");
        write_member(&mut archive, "three", b"");
        let names: Vec<_> = all(&archive).unwrap();
        assert_eq!(names[0], ("one".to_owned(), b"odd".to_vec()));
        assert_eq!(names.len(), 3);
        let mut skipped = Archive::new(archive.as_slice()).unwrap();
        assert_eq!(skipped.next_member().unwrap().unwrap().size, 3);
        assert_eq!(skipped.next_member().unwrap().unwrap().name, "two");
    }

    #[test]
    fn every_truncation_and_damage_is_an_error_or_fewer_members() {
        let mut archive = Vec::new();
        write_member(&mut archive, "one", b"content!");
        for length in 0..archive.len() {
            assert!(all(&archive[..length]).map_or(true, |members| members.is_empty()), "{length}");
        }
        let signed = String::from_utf8(archive).unwrap().replace("8         `", "-8        `");
        assert!(all(signed.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = all(&[MAGIC.as_slice(), &bytes].concat());
        }
    }
}
