//! The programs of a user's units: in the root tree, executable, and for the board's processor.

use crate::config::Config;
use crate::elf;
use crate::tree::{Node, Tree};
use bakelite_spec::finding::Finding;
use std::io::Read;

/// What is wrong with the programs.
pub(super) fn findings(root: &Tree, config: &Config) -> Vec<Finding> {
    let units = config.appliance.units.iter().enumerate();
    units
        .filter_map(|(number, unit)| {
            let program = unit.command.first()?;
            let (problem, hint) = look(root, program, config.board.arch.debian()).err()?;
            Some(config.placed(Finding::error(
                format!("units[{number}].command"),
                format!("{program} {problem}"),
                hint,
            )))
        })
        .collect()
}

fn look(root: &Tree, program: &str, arch: &str) -> Result<(), (String, &'static str)> {
    const ABSENT: &str = "`packages` with the package that brings it, or `files` with the program";
    let head = head_of(root, program).map_err(|problem| (problem, ABSENT))?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
        let interpreter = line.split_whitespace().next().unwrap_or_default().to_string();
        let head = head_of(root, &interpreter)
            .map_err(|problem| (format!("is a script for {interpreter}, which {problem}"), ABSENT))?;
        return elf::check(&head, arch).map_err(|what| {
            (format!("is a script for {interpreter}, which is {what}"), "a package or program for the board")
        });
    }
    elf::check(&head, arch).map_err(|what| {
        (format!("is {what}, the board is {arch}"), "the program built for the board, or a script with `#!`")
    })
}

/// The beginning of an executable file at a path, links followed; else what is there instead.
fn head_of(root: &Tree, path: &str) -> Result<Vec<u8>, String> {
    let resolved = root.resolve(path).ok_or("is not in the image")?;
    let entry = root.get(&resolved).ok_or("is not in the image")?;
    let Node::File(blob) = &entry.node else { return Err("is a folder".into()) };
    if entry.mode & 0o111 == 0 {
        return Err("is not executable; its `mode` has to be \"0755\"".into());
    }
    let mut head = Vec::new();
    let read = blob.open().and_then(|file| file.take(256).read_to_end(&mut head));
    read.map_err(|error| format!("can't be read: {error}"))?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(machine: u8) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = machine;
        bytes
    }

    #[test]
    fn programs_are_found_through_links_and_told_by_their_processor() {
        let mut root = Tree::default();
        root.file("usr/bin/busybox", 0o755, program(62));
        root.file("usr/bin/arm", 0o755, program(183));
        root.file("usr/bin/plain", 0o644, program(62));
        root.file("usr/bin/run", 0o755, "#!/bin/sh -e\ntrue\n");
        root.file("usr/bin/perl", 0o755, "#! /usr/bin/perl5\n");
        root.file("usr/bin/text", 0o755, "hello");
        root.link("usr/bin/sh", "busybox");
        root.link("bin", "usr/bin");
        root.link("usr/bin/loop", "../bin/loop");
        let look = |path: &str| look(&root, path, "amd64").map_err(|(problem, _)| problem);
        assert_eq!(look("/bin/sh"), Ok(()));
        assert_eq!(look("/usr/bin/run"), Ok(()));
        assert_eq!(look("/usr/bin/../bin/busybox"), Ok(()));
        assert_eq!(look("/usr/bin/arm").unwrap_err(), "is a 64-bit program for arm64, the board is amd64");
        assert_eq!(look("/usr/bin/plain").unwrap_err(), "is not executable; its `mode` has to be \"0755\"");
        assert_eq!(look("/usr/bin/perl").unwrap_err(), "is a script for /usr/bin/perl5, which is not in the image");
        assert_eq!(look("/usr/bin/text").unwrap_err(), "is no ELF program, the board is amd64");
        for absent in ["/usr/bin/none", "/usr/bin/loop", "/usr/bin/sh/x"] {
            assert_eq!(look(absent).unwrap_err(), "is not in the image", "{absent}");
        }
        assert_eq!(look("/usr/bin").unwrap_err(), "is a folder");
    }
}
