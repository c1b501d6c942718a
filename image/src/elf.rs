//! For which processor a program is: the first twenty bytes of an ELF file against a board's architecture.
//!
//! A program for another processor ends with "exec format error", in the field; here it is found before there is an
//! image. Must not judge more than that: whether a program works is its maker's business.

use bakelite_spec::board::Arch;

/// The bytes that [`check`] needs of a file's beginning.
pub const HEAD: usize = 20;

/// EI_CLASS (1 for 32 bits, 2 for 64) and e_machine of each architecture, with Debian's name for it.
const MACHINES: &[(u8, u16, &str)] = &[(2, 62, "amd64"), (2, 183, "arm64"), (1, 40, "armhf")];

/// Whether a file's beginning is that of an ELF file.
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

/// Checks that an ELF file is for an architecture, by Debian's name; else what it is, in words.
///
/// # Errors
/// "no ELF program", or what it is instead.
pub fn check(head: &[u8], arch: &str) -> Result<(), String> {
    if head.len() < HEAD || !is_elf(head) {
        return Err("no ELF program".into());
    }
    // EI_DATA: 1 is little-endian, which all our architectures are.
    let machine =
        if head[5] == 2 { u16::from_be_bytes([head[18], head[19]]) } else { u16::from_le_bytes([head[18], head[19]]) };
    let class = head[4];
    if head[5] == 1 && MACHINES.contains(&(class, machine, arch)) {
        return Ok(());
    }
    let name = MACHINES.iter().find(|(_, known, _)| *known == machine).map(|(.., name)| (*name).to_string());
    let bits = if class == 2 { 64 } else { 32 };
    Err(format!("a {bits}-bit program for {}", name.unwrap_or_else(|| format!("ELF machine {machine}"))))
}

/// The same for a board's architecture.
///
/// # Errors
/// As [`check`].
pub fn check_for(head: &[u8], arch: Arch) -> Result<(), String> {
    check(head, arch.debian())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(class: u8, data: u8, machine: u8) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data]);
        head[if data == 2 { 19 } else { 18 }] = machine;
        head
    }

    #[test]
    fn programs_for_another_processor_are_told() {
        assert_eq!(check(&head(2, 1, 62), "amd64"), Ok(()));
        assert_eq!(check(&head(2, 1, 183), "amd64").unwrap_err(), "a 64-bit program for arm64");
        assert_eq!(check(&head(1, 1, 40), "arm64").unwrap_err(), "a 32-bit program for armhf");
        assert_eq!(check(&head(1, 2, 8), "armhf").unwrap_err(), "a 32-bit program for ELF machine 8");
        assert_eq!(check(b"#!/bin/sh\nexec true please\n", "armhf").unwrap_err(), "no ELF program");
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = check(&bytes, "amd64");
        }
    }
}
