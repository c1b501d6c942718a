//! What a person can get wrong about boards and processors: refused by `bakelite check`, with the line and what to do.
//!
//! What only Debian's packages can tell (a kernel that can't drive a board, one without its device tree) is tried by the
//! builder's proofs.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Checks an appliance in a folder; what is said of it, which must be a refusal.
#[expect(clippy::disallowed_methods, reason = "a test runs the command as a person would")]
fn refused(folder: &Path, text: &str) -> String {
    let config = folder.join("shop.yaml");
    write(&config, text);
    let done = Command::new(env!("CARGO_BIN_EXE_bakelite")).arg("check").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{said}");
    said
}

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
}

fn contains(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

/// The head of a program for a processor, with the version that k3s's has.
fn program(class: u8, machine: u8) -> Vec<u8> {
    let mut program = vec![0; 64];
    program[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
    program[18] = machine;
    program.extend(b"v1.36.2+k3s1");
    program
}

/// What `docker save` writes of an image with one layer.
fn archive(architecture: &str) -> Vec<u8> {
    let hexadecimal = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let layer = b"layer".to_vec();
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","rootfs":{{"diff_ids":["sha256:{}"]}}}}"#,
        hexadecimal(&layer)
    );
    let name = format!("{}.json", hexadecimal(config.as_bytes()));
    let manifest = format!(r#"[{{"Config":"{name}","RepoTags":["till:1"],"Layers":["layer.tar"]}}]"#);
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in
        [("layer.tar", layer), (name.as_str(), config.into_bytes()), ("manifest.json", manifest.into_bytes())]
    {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn boards_with_an_armv6_processor_are_refused_by_name_with_the_nearest_that_run() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["rpi-zero", "rpi-zero-w", "rpi0", "rpi1", "rpi-1", "rpi-cm1", "raspberry-pi-zero"] {
        let said = refused(folder.path(), &format!("hostname: till\nboard: {name}\n"));
        contains(&said, &["shop.yaml:2:8: board.name", &format!("`{name}` has an ARMv6 processor"), "`rpi3`"]);
    }
    contains(&refused(folder.path(), "board: rpi6\n"), &["is not a known board; try `rpi"]);
}

#[test]
fn a_container_archive_for_another_processor_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (board, architecture, wanted) in [
        ("rpi3-armv7", "arm64", "linux/arm/v7"),
        ("rpi4", "amd64", "linux/arm64"),
        ("generic-x86_64", "arm64", "linux/amd64"),
    ] {
        write(&folder.path().join("till.tar"), archive(architecture));
        let said = refused(folder.path(), &format!("board: {board}\nimages: [till.tar]\n"));
        let found = format!("library/till:1 for linux/{architecture}, but the board is {wanted}");
        contains(&said, &["shop.yaml:2:10: images[0]", &found]);
    }
}

#[test]
fn a_k3s_program_for_another_processor_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("payload");
    fs::create_dir(&files).unwrap();
    let text = "board: rpi2-armv7\nk3s: {files: payload}\n";
    write(&files.join("k3s-arm64"), program(2, 183));
    contains(
        &refused(folder.path(), text),
        &["shop.yaml:2:7: k3s.files", "only k3s-arm64 for arm64; the board is armhf"],
    );
    write(&files.join("k3s-armhf"), program(2, 183));
    contains(&refused(folder.path(), text), &["k3s-armhf is a 64-bit program for arm64, but the board is armhf"]);
}

#[test]
fn a_line_of_config_txt_that_contradicts_what_is_started_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), "board:\n  name: rpi4\n  config-txt: [arm_64bit=0]\n");
    contains(&said, &["board.config-txt", "on a Pi 4 B, 64 bits false instead of true", "taking the line out"]);
}
