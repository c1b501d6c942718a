//! What the machine lives on (the kernel's Documentation/ABI/testing/sysfs-class-power).

use crate::{names_in, read_text};
use std::path::Path;

/// Whether a battery or an uninterruptible supply is what the machine lives on now: one of the machine's own, and not of a
/// keyboard's or such, that is being discharged.
pub fn on_battery(root: &Path) -> bool {
    let supplies = root.join("sys/class/power_supply");
    names_in(&supplies).iter().any(|name| {
        let word = |key: &str| read_text(supplies.join(name).join(key)).unwrap_or_default().trim().to_string();
        matches!(word("type").as_str(), "Battery" | "UPS")
            && word("scope") != "Device"
            && word("status") == "Discharging"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable;

    #[test]
    fn only_a_battery_of_the_machines_own_that_is_drained_counts() {
        let on = |words: &[(&str, &str)]| {
            let root = tempfile::tempdir().unwrap();
            let supply = root.path().join("sys/class/power_supply/BAT0");
            std::fs::create_dir_all(&supply).unwrap();
            words.iter().for_each(|(key, word)| {
                durable::replace(supply.join(key), format!("{word}\n").as_bytes(), 0o644).unwrap()
            });
            on_battery(root.path())
        };
        assert!(on(&[("type", "Battery"), ("status", "Discharging")]));
        assert!(on(&[("type", "UPS"), ("scope", "System"), ("status", "Discharging")]));
        assert!(!on(&[("type", "Battery"), ("status", "Charging")]));
        assert!(!on(&[("type", "Battery"), ("scope", "Device"), ("status", "Discharging")]));
        assert!(!on(&[("type", "Mains"), ("online", "1")]));
        assert!(!on_battery(Path::new("/nonexistent")));
    }
}
