//! What a pass has taken: time, processors, and bytes that went towards a medium. By the kernel's own count; for the log.

use bakelite_spec::quantity::Size;
use bakelite_sys::{machine, read_text};
use std::time::Duration;

/// Nanoseconds on a processor and bytes written so far, by this process; `None` where the kernel doesn't count them.
type Counted = (Option<u64>, Option<u64>);

fn counted() -> Counted {
    let processors = read_text("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = processors.split(' ').next().and_then(|first| first.parse().ok());
    (nanoseconds, written(&read_text("/proc/self/io").unwrap_or_default()))
}

/// Bytes that are on their way to a medium; what was cut off before it went there is no wear.
fn written(text: &str) -> Option<u64> {
    let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(of("write_bytes:")?.saturating_sub(of("cancelled_write_bytes:").unwrap_or(0)))
}

/// Does something, and says what it took.
pub fn told<T>(name: &str, act: impl FnOnce() -> T) -> T {
    let (begun, before) = (machine::uptime(), counted());
    let done = act();
    let (took, after) = (machine::uptime().saturating_sub(begun), counted());
    log::info!("{}", words(name, took, before, after));
    done
}

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
        let file = "rchar: 9\nread_bytes: 1\nwrite_bytes: 40960\ncancelled_write_bytes: 32768\n";
        assert_eq!((written(file), written("")), (Some(8192), None));
    }
}
