//! A flash onto a real block device, which a loop device is: opened for this program alone, discarded, written and read back past
//! the page cache. Only root may make one.

#![expect(clippy::unwrap_used, reason = "a proof that can't go on has failed")]

use bakelite_flash::testing::{image, seed_on};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const MIB: u64 = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "a test runs programs as a person would")]
fn run(program: &str, arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(program).args(arguments).stdin(Stdio::null()).output()
}

/// A loop device of a file, which goes with this.
struct Loop(String);

impl Loop {
    /// Attaches a file; `None` where that can't be done here.
    fn of(file: &Path, more: &[&str]) -> Option<Self> {
        let path = file.display().to_string();
        let attached = run("/usr/sbin/losetup", &[&["--find", "--show"], more, &[&path]].concat()).ok()?;
        attached.status.success().then(|| Self(String::from_utf8_lossy(&attached.stdout).trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run("/usr/sbin/losetup", &["--detach", &self.0]);
    }
}

/// A file full of something else.
fn used(path: &Path, length: u64) -> PathBuf {
    let file = File::create(path).unwrap();
    let noise: Vec<u8> = (0..MIB).map(|number| (number % 251) as u8 | 1).collect();
    (0..length / MIB).for_each(|number| file.write_all_at(&noise, number * MIB).unwrap());
    path.into()
}

fn flash(image: &Path, device: &str, more: &[&str]) -> (Option<i32>, String) {
    let image = image.display().to_string();
    let output = run(env!("CARGO_BIN_EXE_bakelite"), &[&["flash", &image, device], more].concat()).unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The MiB of two files that differ, among some.
fn differing(one: &Path, other: &Path, mut places: impl Iterator<Item = u64>) -> Option<u64> {
    let (one, other) = (File::open(one).unwrap(), File::open(other).unwrap());
    let (mut wanted, mut found) = (vec![0; MIB as usize], vec![0; MIB as usize]);
    places.find(|number| {
        one.read_exact_at(&mut wanted, number * MIB).unwrap();
        other.read_exact_at(&mut found, number * MIB).unwrap();
        wanted != found
    })
}

#[test]
fn a_block_device_is_flashed_whole_and_one_that_may_not_be_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let image = image(folder.path()).unwrap();
    let length = std::fs::metadata(&image).unwrap().len();
    let medium = used(&at("medium"), length + 64 * MIB);
    let Some(device) = Loop::of(&medium, &[]) else {
        println!("SKIPPED: needs root and loop devices");
        return;
    };
    let (code, said) = flash(&image, &device.0, &["--set", "hostname=shop-1"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(seed_on(&medium).unwrap().settings["hostname"], "shop-1");
    // The system, of one MiB, lies behind the boot partition.
    assert_eq!(differing(&image, Path::new(&device.0), std::iter::once(514)), None);

    // Somebody's image without a map: where that has nothing, zeros come.
    let foreign = at("foreign.img");
    let file = File::create(&foreign).unwrap();
    file.set_len(length).unwrap();
    [1, 40, 300].into_iter().for_each(|number| file.write_all_at(&[7; 5000], number * MIB + 512).unwrap());
    let (code, said) = flash(&foreign, &device.0, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(differing(&foreign, Path::new(&device.0), 0..length / MIB), None);
    drop(device);

    // What is write-protected or too small is refused before a byte of it is written.
    let small = used(&at("small"), 64 * MIB);
    let before = std::fs::read(&small).unwrap();
    for (more, words) in [(&["--read-only"][..], "it is write-protected"), (&[][..], "and the image needs")] {
        let device = Loop::of(&small, more).unwrap();
        let (code, said) = flash(&image, &device.0, &[]);
        assert!(code == Some(2) && said.contains(words), "{code:?}: {said}");
    }
    assert!(std::fs::read(&small).unwrap() == before);
}
