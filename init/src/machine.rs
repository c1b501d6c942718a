//! What a machine needs before its programs: a clock that never goes back, a machine-id, kernel settings, swap.

use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::status::paths;
use bakelite_sys::{SysError, durable, machine, read_text, tool, words};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// The clock and the running time of all boots, both in seconds, when they were last saved.
const CLOCK: &str = "/var/lib/bakelite/clock";
const MACHINE_ID: &str = "/var/lib/bakelite/machine-id";

/// Kernel settings by k3s.md 2.4; with protect-kernel-defaults the kubelet refuses others.
const SYSCTLS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("vm/max_map_count", "262144"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
    ("fs/inotify/max_user_instances", "1024"),
    ("fs/inotify/max_user_watches", "262144"),
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/forwarding", "1"),
    ("net/ipv4/conf/default/forwarding", "1"),
    // Ctrl-Alt-Del is a signal to this program, not a sudden restart.
    ("kernel/ctrl-alt-del", "0"),
    // Only what is at least a warning reaches the consoles; the status page is there.
    ("kernel/printk", "4 4 1 4"),
    // Else the kernel drops what the early programs say when they say much at once.
    // It takes the word only as a line.
    ("kernel/printk_devkmsg", "on\n"),
];

/// Sets the kernel's settings; one that this kernel lacks is skipped.
pub fn sysctls() {
    for (name, value) in SYSCTLS {
        if let Err(error) = durable::write_plain(Path::new("/proc/sys").join(name), value) {
            log::info!("left a kernel setting: {}", words(&error));
        }
    }
}

/// The latest of the clock, the image's time and the time that was last saved: seconds since 1970.
pub fn floor(now: i64, image: i64, saved: Option<i64>) -> i64 {
    now.max(image).max(saved.unwrap_or(0))
}

/// Lifts the clock to its floor; what was done.
///
/// # Errors
/// Where the kernel refuses it.
pub fn lift_clock(image: i64) -> Result<Option<String>, SysError> {
    let saved = saved(&read_text(CLOCK).unwrap_or_default()).0;
    // Read before anything is saved: this boot's time is added to what was before it.
    running_time();
    let now = machine::clock();
    let floor = floor(now, image, saved);
    if floor == now {
        return Ok(None);
    }
    machine::set_clock(floor)?;
    Ok(Some(format!("set the clock {} s ahead, to what is known at least", floor - now)))
}

/// Saves the clock, so that the next boot doesn't begin before now, and how long this machine has run.
///
/// # Errors
/// Where it can't be written.
pub fn save_clock() -> Result<(), SysError> {
    durable::write_durable(CLOCK, format!("{} {}\n", machine::clock(), running_time()).as_bytes(), 0o644)
}

/// How long this machine has run in all its boots, in seconds; a pulled plug loses the last minutes. Unlike the clock it
/// never jumps.
pub fn running_time() -> i64 {
    static BEFORE: OnceLock<i64> = OnceLock::new();
    let before = BEFORE.get_or_init(|| saved(&read_text(CLOCK).unwrap_or_default()).1.unwrap_or(0));
    before + i64::try_from(machine::uptime().as_secs()).unwrap_or(0)
}

/// The clock and the running time that were saved, as far as they can be read.
fn saved(text: &str) -> (Option<i64>, Option<i64>) {
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
    (numbers.next().flatten(), numbers.next().flatten())
}

/// Makes this machine's id once, and shows it in /run, where /etc/machine-id points.
///
/// # Errors
/// Where it can't be made or kept.
pub fn machine_id() -> Result<(), SysError> {
    let valid = |text: &String| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = match read_text(MACHINE_ID).ok().filter(valid) {
        Some(id) => id,
        None => {
            let id = hexadecimal(machine::random()?);
            durable::write_durable(MACHINE_ID, format!("{id}\n").as_bytes(), 0o444)?;
            id
        }
    };
    durable::replace("/run/bakelite/machine-id", format!("{id}\n").as_bytes(), 0o444)
}

/// Makes compressed swap of so many bytes, unless the kernel can't; what was done. The module is loaded by then.
///
/// # Errors
/// Where the kernel lacks it or a tool fails.
pub fn compressed_swap(bytes: u64) -> Result<String, SysError> {
    durable::write_plain("/sys/block/zram0/disksize", &bytes.to_string())?;
    let limit = Duration::from_secs(10);
    tool::must("/usr/bin/busybox", &["mkswap", "/dev/zram0"], limit)?;
    tool::must("/usr/bin/busybox", &["swapon", "/dev/zram0"], limit)?;
    Ok(format!("made {} MiB of compressed swap", bytes >> 20))
}

/// Takes over the node's name that firstboot has decided; the name, if there is one.
pub fn take_hostname() -> Option<String> {
    let name = read_text(paths::HOSTNAME).ok().map(|name| name.trim().to_string()).filter(|name| !name.is_empty())?;
    if let Err(error) = rustix::system::sethostname(name.as_bytes()) {
        log::warn!("kept the old name: {error}");
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::{floor, saved};

    #[test]
    fn the_clock_is_never_before_what_is_known() {
        assert_eq!(floor(0, 1_790_000_000, None), 1_790_000_000);
        assert_eq!(floor(0, 1_790_000_000, Some(1_800_000_000)), 1_800_000_000);
        assert_eq!(floor(1_900_000_000, 1_790_000_000, Some(1_800_000_000)), 1_900_000_000);
        assert_eq!(floor(5, 9, Some(-1)), 9);
    }

    #[test]
    fn what_was_saved_is_read_as_far_as_it_is_whole() {
        assert_eq!(saved("1790000000 86400\n"), (Some(1_790_000_000), Some(86_400)));
        assert_eq!(saved("1790000000\n"), (Some(1_790_000_000), None));
        assert_eq!(saved(""), (None, None));
        assert_eq!(saved("\0\0\0\0"), (None, None));
    }
}
