//! Whether KVM really serves: decided by booting a kernel, never by the presence of /dev/kvm.
//!
//! On some hosts /dev/kvm is there and no kernel gets through its start under it. The probe gives the image's own kernel
//! ten seconds to come to its end without an initramfs; that takes a second or two where KVM serves. The answer is
//! kept for this boot of the host. `BAKELITE_ACCEL=kvm|tcg` decides without a probe.

use crate::door;
use bakelite_spec::board::Arch;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How QEMU runs the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's processor.
    Kvm,
    /// Translation: slower by an order of magnitude, and always there.
    Tcg,
}

impl Accelerator {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Kvm, Self::Tcg].into_iter().find(|accelerator| accelerator.name() == word.trim())
    }
}

const PROBE_TIME: Duration = Duration::from_secs(10);
/// What the kernel says when it has come through its start and finds nothing to run.
const CAME_THROUGH: &str = "Unable to mount root fs";

/// The accelerator for a kernel of an architecture on this host.
pub(crate) fn choose(qemu: &Path, arch: Arch, kernel: &[u8]) -> Accelerator {
    if arch.name() != std::env::consts::ARCH {
        return Accelerator::Tcg;
    }
    if let Some(said) = std::env::var("BAKELITE_ACCEL").ok().and_then(|word| Accelerator::parse(&word)) {
        return said;
    }
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Accelerator::Tcg;
    }
    let note = note();
    if let Some(known) = note.as_ref().and_then(|path| Accelerator::parse(&std::fs::read_to_string(path).ok()?)) {
        return known;
    }
    let found =
        if probe(qemu, arch, kernel, "kvm", PROBE_TIME).unwrap_or(false) { Accelerator::Kvm } else { Accelerator::Tcg };
    if let Some(path) = note {
        // Without the note the next machine probes again: slower, not wrong.
        let _ = std::fs::File::create(path).and_then(|mut file| file.write_all(found.name().as_bytes()));
    }
    found
}

/// Where the answer is kept: by the host's boot, and by user.
fn note() -> Option<PathBuf> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    Some(folder.join(format!("bakelite-accelerator-{}-{}", rustix::process::getuid().as_raw(), boot.trim())))
}

/// Boots a kernel with nothing to run; whether it came through.
fn probe(qemu: &Path, arch: Arch, kernel: &[u8], accelerator: &str, time: Duration) -> std::io::Result<bool> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(kernel)?;
    let cpu = if accelerator == "kvm" { "host" } else { "max" };
    let (machine, line) = if arch == Arch::X86_64 { ("q35", "ttyS0") } else { ("virt", "ttyAMA0") };
    let mut child = door::command(qemu)
        .args(["-machine", machine, "-accel", accelerator, "-cpu", cpu, "-m", "256", "-nodefaults", "-no-user-config"])
        .args([
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
            "-append",
            &format!("console={line} panic=-1"),
            "-kernel",
        ])
        .arg(file.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.as_mut().map(|output| output.read_to_end(&mut bytes));
        bytes
    });
    let deadline = Instant::now() + time;
    while child.try_wait()?.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    // Already gone where it came through: then there is nothing to kill.
    let _ = child.kill();
    child.wait()?;
    let said = reader.join().unwrap_or_default();
    Ok(String::from_utf8_lossy(&said).contains(CAME_THROUGH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_tells_a_kernel_that_comes_through_from_one_that_does_not() {
        let (Some(kernel), Some(qemu)) = (door::tests::kernel(), door::find("qemu-system-x86_64")) else {
            eprintln!("SKIPPED: needs qemu-system-x86_64 and a kernel in /boot or BAKELITE_TEST_KERNEL");
            return;
        };
        assert!(probe(&qemu, Arch::X86_64, &kernel, "tcg", Duration::from_secs(60)).unwrap());
        let before = Instant::now();
        assert!(
            !probe(&qemu, Arch::X86_64, &kernel, "tcg", Duration::from_millis(300)).unwrap(),
            "there was no time to come through"
        );
        assert!(!probe(&qemu, Arch::X86_64, b"no kernel", "tcg", Duration::from_secs(60)).unwrap());
        assert!(before.elapsed() < Duration::from_secs(20));
        assert_eq!(Accelerator::parse("kvm\n"), Some(Accelerator::Kvm));
        assert_eq!(Accelerator::parse("hvf"), None);
    }
}
