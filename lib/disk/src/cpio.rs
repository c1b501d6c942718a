//! The archives of an initramfs as the kernel reads them (newc; kernel: Documentation/driver-api/early-userspace/buffer-format):
//! one after the other, none of them packed, as the workshop writes them.

/// The magic of a member.
pub const MAGIC: &[u8] = b"070701";
/// The length of a member's header: the magic and thirteen numbers of eight hexadecimal digits.
const HEADER: usize = 110;
/// The name of the member that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// A member of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its path.
    pub name: &'a [u8],
    /// Its kind and mode, as in `st_mode`.
    pub mode: u32,
    /// A file's bytes, or a link's target.
    pub content: &'a [u8],
}

/// All members, one after the other, but for the trailers. `None` where anything of it isn't whole, up to the end.
pub fn members(bytes: &[u8]) -> Option<Vec<Member<'_>>> {
    let mut members = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        // Zeros may stand between archives.
        if bytes[at] == 0 {
            at += 1;
            continue;
        }
        let (member, next) = member(bytes, at)?;
        if member.name != TRAILER {
            members.push(member);
        }
        at = next;
    }
    Some(members)
}

/// The content of the last member with a name, as the kernel would leave it; `None` where there is none, or anything isn't whole.
pub fn last<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    members(bytes)?.iter().rfind(|member| member.name == name.as_bytes()).map(|member| member.content)
}

/// The member at a place, and where the next one is.
fn member(bytes: &[u8], at: usize) -> Option<(Member<'_>, usize)> {
    let name_at = at.checked_add(HEADER)?;
    let header = bytes.get(at..name_at).filter(|header| header.starts_with(MAGIC))?;
    let field = |number: usize| {
        let at = MAGIC.len() + number * 8;
        u32::from_str_radix(std::str::from_utf8(header.get(at..at + 8)?).ok()?, 16).ok()
    };
    let length = |number| usize::try_from(field(number)?).ok();
    let name_end = name_at.checked_add(length(11)?)?;
    let content_at = name_end.checked_next_multiple_of(4)?;
    let content_end = content_at.checked_add(length(6)?)?;
    let member = Member {
        // A zero ends it.
        name: bytes.get(name_at..name_end.checked_sub(1)?)?,
        mode: field(1)?,
        content: bytes.get(content_at..content_end)?,
    };
    Some((member, content_end.checked_next_multiple_of(4)?))
}

/// An archive of files, for tests.
#[cfg(any(test, feature = "testing"))]
pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in members.iter().chain(&[("TRAILER!!!", &b""[..])]) {
        let (length, name_length) = (content.len(), name.len() + 1);
        let numbers = [1, 0o100_644, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
        bytes.extend(MAGIC);
        numbers.iter().for_each(|number| bytes.extend(format!("{number:08x}").bytes()));
        for part in [[name.as_bytes(), b"\0"].concat(), content.to_vec()] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_of_several_archives_are_read_in_their_order_and_zeros_between_do_not_matter() {
        let bytes = [archive(&[("a", b"12345")]), vec![0; 512], archive(&[("b/c", b""), ("d", b"6")])].concat();
        let members = members(&bytes).unwrap();
        let seen: Vec<_> = members.iter().map(|member| (member.name, member.content)).collect();
        assert_eq!(seen, [(&b"a"[..], &b"12345"[..]), (b"b/c", b""), (b"d", b"6")]);
        assert!(members.iter().all(|member| member.mode == 0o100_644));
        let twice = [archive(&[("a", b"old")]), archive(&[("a", b"new")])].concat();
        assert_eq!((last(&twice, "a"), last(&twice, "b")), (Some(&b"new"[..]), None));
    }

    #[test]
    fn what_is_cut_off_anywhere_but_between_two_members_is_not_whole() {
        let bytes = archive(&[("a", b"12345")]);
        let whole: Vec<usize> = (0..bytes.len()).filter(|length| members(&bytes[..*length]).is_some()).collect();
        // Nothing at all, and what ends with a member, its padding there or not.
        let end = HEADER + 2 + 8;
        assert_eq!(whole, [0, end - 3, end - 2, end - 1, end]);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), length in any::<u32>(), name in any::<u32>()) {
            let _ = members(&bytes);
            let mut huge = format!("070701{:0>48}{length:08x}{:0>32}{name:08x}{:08}", "", "", 0).into_bytes();
            huge.extend(bytes);
            let _ = members(&huge);
        }
    }
}
