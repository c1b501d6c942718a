//! The k3s payload from a folder: what doesn't fit is refused before anything is written.

use crate::bakery::{Bench, bakery, command, good, put, refused, sum};
use std::fs;
use std::path::Path;

/// The version that the made-up release names.
pub const VERSION: &str = "v1.36.2+k3s1";

/// Writes a made-up release of at least so many bytes into a folder, with k3s's own file names. It has the head of a
/// program, bytes that can't be compressed, and nothing of k3s.
pub fn release(folder: &Path, binary: &str, length: usize) {
    let mut program = vec![0u8; 64];
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    program[18] = if binary == "k3s" { 62 } else { 183 };
    program.extend_from_slice(VERSION.as_bytes());
    let mut state = 0x2545_f491_4f6c_dd1du64;
    while program.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // No letter v, so that no other version appears by chance.
        program.extend(state.to_le_bytes().map(|byte| if byte == b'v' { 0 } else { byte }));
    }
    let images = zstd::encode_all(&[0u8; 1024][..], 1).unwrap();
    let suffix = if binary == "k3s" { "amd64" } else { "arm64" };
    let archive = format!("k3s-airgap-images-{suffix}.tar.zst");
    let list = format!("{}  {binary}\n{}  {archive}\n", sum(&program), sum(&images));
    put(&folder.join(binary), program);
    put(&folder.join(archive), images);
    put(&folder.join(format!("sha256sum-{suffix}.txt")), list);
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let Some(bakery) = bakery() else { return };
    let bench = Bench::new(bakery, "board: qemu-x86_64\nk3s: {files: payload}\n");
    let payload = bench.at("payload");
    release(&payload, "k3s", 4096);
    let mut lock = command(&bakery.program);
    good(lock.arg("lock").arg(&bench.config).arg("--cache").arg(&bench.cache));
    let build = || {
        let mut build = bench.build(bakery);
        build.arg("--offline");
        build
    };
    let whole = fs::read(payload.join("k3s")).unwrap();

    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    put(&payload.join("k3s"), &damaged);
    refused(&mut build(), 1, &["payload/k3s is damaged or of another release", "sha256sum-amd64.txt", &sum(&whole)]);

    // Of one release, but not the one that was locked.
    let list = fs::read_to_string(payload.join("sha256sum-amd64.txt")).unwrap();
    put(&payload.join("sha256sum-amd64.txt"), list.replace(&sum(&whole), &sum(&damaged)));
    refused(&mut build(), 1, &["is not the file that was locked", "bakelite lock"]);

    // A program for another processor under the right name.
    let mut foreign = whole.clone();
    foreign[18] = 183;
    put(&payload.join("k3s"), &foreign);
    put(&payload.join("sha256sum-amd64.txt"), list.replace(&sum(&whole), &sum(&foreign)));
    refused(&mut build(), 1, &["64-bit program for arm64", "the board is amd64"]);

    fs::remove_dir_all(&payload).unwrap();
    release(&payload, "k3s-arm64", 4096);
    refused(&mut build(), 1, &["has no file sha256sum-amd64.txt"]);
    bench.nothing_left();
}
