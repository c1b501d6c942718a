//! Reads one member out of an initramfs: any number of newc archives, one after the other (kernel:
//! Documentation/driver-api/early-userspace/buffer-format.rst). Foreign bytes are refused, never followed.

/// The content of the last member with a name, as the kernel would leave it; `None` where there is none.
pub fn last_member<'a>(initramfs: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut found = None;
    let mut rest = initramfs;
    loop {
        // Zeros may stand between archives.
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        rest = &rest[zeros..];
        let Some((name, content, after)) = member(rest) else { return found };
        if name == wanted.as_bytes() {
            found = Some(content);
        }
        rest = after;
    }
}

/// Name, content and what comes after the member at the beginning.
fn member(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let header = bytes.get(..110).filter(|header| header.starts_with(b"07070"))?;
    let number = |field: usize| {
        let at = 6 + field * 8;
        usize::from_str_radix(std::str::from_utf8(&header[at..at + 8]).ok()?, 16).ok()
    };
    let (length, name_length) = (number(6)?, number(11)?);
    let name_end = 110usize.checked_add(name_length)?;
    let name = bytes.get(110..name_end)?.split(|byte| *byte == 0).next()?;
    let start = name_end.checked_next_multiple_of(4)?;
    let end = start.checked_add(length)?;
    let content = bytes.get(start..end)?;
    Some((name, content, bytes.get(end.checked_next_multiple_of(4)?..).unwrap_or_default()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in members.iter().chain([&("TRAILER!!!", &b""[..])]) {
            bytes.extend(format!("070701{:08x}", 1).bytes());
            bytes.extend([0u8; 5].iter().flat_map(|_| *b"00000000"));
            bytes.extend(format!("{:08x}", content.len()).bytes());
            bytes.extend([0u8; 4].iter().flat_map(|_| *b"00000000"));
            bytes.extend(format!("{:08x}00000000{name}\0", name.len() + 1).bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_last_archive_wins_and_zeros_between_do_not_matter() {
        let mut bytes = archive(&[("init", b"elf"), ("a", b"old")]);
        bytes.extend([0; 512]);
        bytes.extend(archive(&[("a", b"newer")]));
        assert_eq!(last_member(&bytes, "a"), Some(&b"newer"[..]));
        assert_eq!(last_member(&bytes, "init"), Some(&b"elf"[..]));
        assert_eq!(last_member(&bytes, "b"), None);
    }

    #[test]
    fn cut_and_foreign_bytes_end_the_reading() {
        let bytes = archive(&[("a", b"content")]);
        for length in 0..bytes.len() {
            let _ = last_member(&bytes[..length], "a");
        }
        let mut huge = bytes;
        huge[54..62].copy_from_slice(b"ffffffff");
        assert_eq!(last_member(&huge, "a"), None);
    }
}
