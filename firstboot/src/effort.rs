//! What a pass has taken: time, processors, and bytes that went towards a medium. By the kernel's own count; for the log.

use bakelite_spec::quantity::Size;
use bakelite_sys::{machine, read_text};
use std::time::Duration;

/// Nanoseconds on a processor and bytes written so far, by this process; `None` where the kernel doesn't count them.
fn counted() -> (Option<u64>, Option<u64>) {
    let processors = read_text("/proc/self/schedstat").unwrap_or_default();
    let files = read_text("/proc/self/io").unwrap_or_default();
    let written = files.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    (processors.split(' ').next().and_then(|first| first.parse().ok()), written.and_then(|bytes| bytes.parse().ok()))
}

/// Does something, and says what it took.
pub fn told<T>(name: &str, act: impl FnOnce() -> T) -> T {
    let (begun, before) = (machine::uptime(), counted());
    let done = act();
    let (took, after) = (machine::uptime().saturating_sub(begun), counted());
    log::info!("{}", words(name, took, before, after));
    done
}

type Counted = (Option<u64>, Option<u64>);

fn words(name: &str, took: Duration, before: Counted, after: Counted) -> String {
    let since = |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?));
    let mut text = format!("{name} took {:.3} s", took.as_secs_f64());
    if let Some(nanoseconds) = since(before.0, after.0) {
        text += &format!(", {:.3} s of a processor", Duration::from_nanos(nanoseconds).as_secs_f64());
    }
    if let Some(bytes) = since(before.1, after.1) {
        text += &format!(", and wrote {}", Size(bytes).human());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts_is_told_and_nothing_else() {
        let took = Duration::from_millis(1250);
        let (before, after) = ((Some(1_000_000), Some(4096)), (Some(301_000_000), Some(12_288)));
        assert_eq!(words("early", took, before, after), "early took 1.250 s, 0.300 s of a processor, and wrote 8 KiB");
        assert_eq!(words("early", took, (None, None), after), "early took 1.250 s");
        assert_eq!(told("test", || 7), 7);
    }
}
