//! Facts of the machine: memory, clocks, serial number, processes of a cgroup.

use crate::{SysError, names_in, read_text};
use bakelite_spec::serial::is_individual;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::path::Path;
use std::time::Duration;

/// Seconds since the kernel started, sleep included (CLOCK_BOOTTIME).
pub fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The wall clock in seconds since 1970; negative before.
pub fn clock() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// Sets the wall clock.
///
/// # Errors
/// Where the kernel refuses the value.
pub fn set_clock(seconds: i64) -> Result<(), SysError> {
    clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: 0 })
        .map_err(|error| SysError::System { act: "setting the clock", source: error.into() })
}

/// The kernel's random name for this boot; empty where it gives none. `root` is `/` but in tests.
pub fn boot(root: &Path) -> String {
    read_text(root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default()
}

/// Bytes of memory that the kernel can use.
pub fn memory() -> u64 {
    of_memory("MemTotal:")
}

/// Bytes of memory that can be had without swapping.
pub fn available_memory() -> u64 {
    of_memory("MemAvailable:")
}

fn of_memory(name: &str) -> u64 {
    let text = read_text("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix(name)?.trim().trim_end_matches(" kB").parse().ok());
    kib.unwrap_or(0) * 1024
}

/// The running kernel's release.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The maker's serial number, from the device tree or DMI; empty where there is none worth the name. `root` is `/` but in tests.
pub fn serial(root: &Path) -> String {
    const FILES: [&str; 4] = [
        "sys/firmware/devicetree/base/serial-number",
        "sys/class/dmi/id/product_serial",
        "sys/class/dmi/id/board_serial",
        "sys/class/dmi/id/product_uuid",
    ];
    FILES
        .iter()
        .filter_map(|file| read_text(root.join(file)).ok())
        .map(|text| text.trim().to_lowercase())
        // A text that a maker left is told by having words or hardly a digit, where it isn't known.
        .find(|text| {
            let digits = text.chars().filter(char::is_ascii_digit).count();
            digits > 3 && !text.contains(' ') && is_individual(text)
        })
        .unwrap_or_default()
}

/// Sixteen random bytes from the kernel.
///
/// # Errors
/// Where the kernel has none.
pub fn random() -> Result<[u8; 16], SysError> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| SysError::System { act: "asking for random bytes", source: error.into() })?;
    Ok(bytes)
}

/// The processes of a cgroup and of those below it.
pub fn processes_below(cgroup: &Path) -> Vec<u32> {
    let text = read_text(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(processes_below(&entry.path()));
        }
    }
    found
}

/// The hottest of the machine's thermometers, in degrees Celsius; `None` where there is none. `root` is `/` but in tests.
pub fn degrees(root: &Path) -> Option<u64> {
    let folder = root.join("sys/class/thermal");
    let zones = names_in(&folder).into_iter().filter(|name| name.starts_with("thermal_zone"));
    let read = |zone: String| read_text(folder.join(zone).join("temp")).ok()?.trim().parse::<u64>().ok();
    zones.filter_map(read).max().map(|thousandths| thousandths / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_no_serial_numbers() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/class/dmi/id");
        crate::durable::make_folder(&folder).unwrap();
        let put = |name: &str, text: &str| crate::durable::replace(folder.join(name), text.as_bytes(), 0o644).unwrap();
        put("product_serial", "To be filled by O.E.M.\n");
        put("board_serial", "00000000\n");
        assert_eq!(serial(root.path()), "");
        put("board_serial", "PF1A2345\n");
        assert_eq!(serial(root.path()), "pf1a2345");
    }

    #[test]
    fn this_machine_has_memory_and_a_running_clock() {
        assert!(memory() > 1 << 20);
        assert!(uptime() > Duration::ZERO);
    }
}
