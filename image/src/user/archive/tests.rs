//! Container archives of both kinds, whole and broken in one way each.

use super::super::testing::{Files, docker, gzip, oci, tar};
use super::*;
use proptest::prelude::*;

fn read(files: &Files, arch: Arch) -> Result<Vec<Image>, String> {
    members(&tar(files)[..]).and_then(|members| images(&members, arch)).map_err(|problem| problem.problem)
}

fn changed(files: &Files, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    let (_, content) = files.iter_mut().find(|(name, _)| name.starts_with(path)).unwrap();
    change(content);
    files
}

fn without(files: &Files, path: &str) -> Files {
    files.iter().filter(|(name, _)| !name.starts_with(path)).cloned().collect()
}

#[test]
fn docker_archives_are_proved_down_to_their_layers() {
    let files = docker("shop/till:1", "amd64");
    let images = read(&files, Arch::X86_64).unwrap();
    assert_eq!(images[0].names[0].to_string(), "docker.io/shop/till:1");
    let damaged = changed(&files, "1/layer.tar", |layer| layer[0] ^= 1);
    assert!(
        read(&damaged, Arch::X86_64)
            .unwrap_err()
            .starts_with("is damaged: 1/layer.tar, a layer of the image docker.io/shop/till:1, has the sum")
    );
    assert_eq!(
        read(&without(&files, "1/"), Arch::X86_64).unwrap_err(),
        "lacks 1/layer.tar, a layer of the image docker.io/shop/till:1"
    );
    let config = files[1].0.clone();
    assert!(read(&changed(&files, &config, |text| text.push(b' ')), Arch::X86_64).unwrap_err().contains("is damaged"));
    assert!(read(&without(&files, &config), Arch::X86_64).unwrap_err().contains("the description of the image"));
    assert!(
        read(&without(&files, "manifest"), Arch::X86_64).unwrap_err().contains("neither manifest.json nor index.json")
    );
    assert!(read(&docker("", "amd64"), Arch::X86_64).unwrap_err().contains("without a name"));
}

#[test]
fn an_image_for_another_processor_is_found_here_and_not_in_the_field() {
    let fits = |architecture: &str, arch| read(&docker("a:1", architecture), arch).is_ok();
    assert!(fits("amd64", Arch::X86_64) && fits("arm64", Arch::Aarch64) && fits("arm64/v8", Arch::Aarch64));
    assert!(fits("arm/v7", Arch::Armv7) && fits("arm/v6", Arch::Armv7) && fits("arm", Arch::Armv7));
    assert!(!fits("arm/v8", Arch::Armv7) && !fits("arm64", Arch::Armv7) && !fits("arm/v7", Arch::Aarch64));
    assert_eq!(
        read(&docker("a:1", "arm64"), Arch::X86_64).unwrap_err(),
        "has the image docker.io/library/a:1 for linux/arm64, but the board is linux/amd64: on the device it would end \
         with \"exec format error\""
    );
    let (files, digest) = oci("docker.io/library/a:1", &["arm64", "arm/v7"]);
    assert_eq!(read(&files, Arch::Aarch64).unwrap()[0].digest, Some(digest));
    assert!(read(&files, Arch::Armv7).is_ok());
    assert!(
        read(&files, Arch::X86_64).unwrap_err().contains("for linux/arm64, linux/arm/v7, but the board is linux/amd64")
    );
}

#[test]
fn oci_layouts_may_lack_other_platforms_but_not_ours() {
    let (files, _) = oci("ghcr.io/shop/till:1", &["amd64", "arm64"]);
    let (blobs, mut lacking, mut damaged) = (files.len(), 0, 0);
    for (path, _) in files.iter().filter(|(path, _)| path.starts_with("blobs/")) {
        lacking += usize::from(read(&without(&files, path), Arch::X86_64).is_err());
        damaged += usize::from(read(&changed(&files, path, |blob| blob.push(b' ')), Arch::X86_64).is_err());
    }
    assert_eq!(blobs, 9);
    // Index, manifests, config and layer of ours; of the other platform only its manifest says that it is another.
    assert_eq!((lacking, damaged), (6, 6), "of index, and manifest, config and layer of two platforms");
}

#[test]
fn bombs_and_foreign_things_end_early_and_in_words() {
    let problem = |bytes: &[u8]| members(bytes).map(|_| ()).unwrap_err().problem;
    assert!(problem(b"hello").contains("is damaged, or no tar archive"));
    let (files, _) = oci("a/b:1", &["amd64"]);
    let whole = tar(&files);
    assert!(problem(&whole[..whole.len() / 2 + 100]).contains("is damaged"));
    let mut named = whole.clone();
    named[0] = 0xff;
    let sum: u32 = named[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    named[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    assert!(problem(&named).contains("isn't UTF-8"));
    for (head, word) in [(&b"BZh9"[..], "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x04\x22\x4d\x18", "lz4")] {
        assert!(Packing::of(head).unwrap_err().problem.contains(word));
    }
    // A gigabyte of zeros in a megabyte goes through without being kept.
    let mut limited = Capped { inner: io::repeat(0), left: 1 << 20 };
    assert!(members(&mut limited).is_ok(), "two empty blocks end a tar");
}

#[test]
fn more_members_than_any_image_has_are_refused() {
    let head = tar(&vec![("x".into(), Vec::new())])[..512].to_vec();
    let many = head.repeat(MEMBERS_LIMIT + 2);
    // The same name again and again takes no room, so it isn't counted; here each is another.
    let mut bytes = many;
    for (number, head) in bytes.chunks_mut(512).enumerate() {
        let name = format!("{number:08}");
        head[..8].copy_from_slice(name.as_bytes());
        head[148..156].fill(b' ');
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        head[154] = 0;
    }
    assert!(members(&bytes[..]).unwrap_err().problem.contains("more than 65536 members"));
}

#[test]
fn files_get_names_that_tell_k3s_how_they_are_packed() {
    let folder = tempfile::tempdir().unwrap();
    let plain = tar(&docker("a:1", "amd64"));
    for (name, bytes, expected) in [
        ("till app.tar", plain.clone(), "till-app.tar"),
        ("till.tgz", gzip(&plain), "till.tar.gz"),
        ("till.tar.gz", zstd::bulk::compress(&plain, 3).unwrap(), "till.tar.zst"),
        (".hidden", plain.clone(), "hidden.tar"),
    ] {
        let path = folder.path().join(name);
        crate::host::file::write(&path, &bytes).unwrap();
        let archive = open("images[0]", &path, Arch::X86_64).unwrap();
        assert_eq!((archive.name.as_str(), archive.size), (expected, bytes.len() as u64));
        assert_eq!(archive.sha256, Sha256::of(&bytes));
        assert_eq!(names_in(&path).unwrap()[0].names, archive.images[0].names);
    }
    // A window that k3s can't take.
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(27).unwrap();
    io::Write::write_all(&mut wide, &plain).unwrap();
    let path = folder.path().join("wide.tar.zst");
    crate::host::file::write(&path, &wide.finish().unwrap()).unwrap();
    assert!(open("images[0]", &path, Arch::X86_64).unwrap_err().problem.contains("a window of 128 MiB"));
}

proptest! {
    #[test]
    fn a_changed_byte_is_an_error_or_changes_nothing_that_is_told(place in 0usize..20_000, bit in 0u8..8) {
        let (files, _) = oci("ghcr.io/shop/till:1", &["amd64"]);
        let mut bytes = tar(&files);
        let place = place % bytes.len();
        bytes[place] ^= 1 << bit;
        let _ = members(&bytes[..]).and_then(|members| images(&members, Arch::X86_64));
    }

    #[test]
    fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = members(&bytes[..]);
    }
}
