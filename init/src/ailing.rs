//! What the hardware ails, by the kernel's own words and a thermometer: too little voltage, heat, a USB disk that is reset
//! again and again. Pure: lines and temperatures in, what they mean out.
//!
//! Some of it only certain kernels say; what none says isn't known here.

use bakelite_spec::fault::{Code, Fault};
use std::collections::BTreeMap;

/// So many resets of one device within so many seconds aren't chance.
const RESETS: usize = 5;
const WITHIN: f64 = 60.0;
/// So many degrees below the limit the heat is over.
const COOLER: u64 = 5;

/// What was heard so far.
#[derive(Debug, Default)]
pub struct Ailing {
    /// The moments of the last resets by the device's place, in seconds.
    resets: BTreeMap<String, Vec<f64>>,
    hot: bool,
}

/// What a line means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ail {
    /// A fault that stays for this boot.
    Fault(Fault),
    /// The USB device at a place is reset again and again; told once for each storm.
    Resets(String),
}

impl Ailing {
    /// What the kernel's new messages mean, a line each, with their seconds in brackets before them.
    pub fn hear(&mut self, lines: &str) -> Vec<Ail> {
        lines.lines().filter_map(|line| self.line(line)).collect()
    }

    fn line(&mut self, line: &str) -> Option<Ail> {
        let (at, text) = line.strip_prefix('[')?.split_once("] ")?;
        let small = text.to_lowercase();
        // Programs write into the same log, with their names before their words.
        if small.starts_with("bakelite: ") {
            return None;
        }
        if small.contains("undervoltage detected") || small.contains("under-voltage detected") {
            let text = "the kernel has found the supply's voltage too low since the start";
            return Some(Ail::Fault(Fault::new(Code::PowerLow, text)));
        }
        if small.contains("temperature") && small.contains("clock") && small.contains("throttled") {
            let text = "the kernel has slowed the processor since the start, as it was too hot";
            return Some(Ail::Fault(Fault::new(Code::ProcessorHot, text)));
        }
        let (place, rest) = text.strip_prefix("usb ")?.split_once(": reset ")?;
        rest.contains("USB device").then(|| self.reset(place, at.trim().parse().ok()?))?
    }

    fn reset(&mut self, place: &str, at: f64) -> Option<Ail> {
        let moments = self.resets.entry(place.into()).or_default();
        moments.retain(|before| at - before < WITHIN);
        moments.push(at);
        if moments.len() < RESETS {
            return None;
        }
        moments.clear();
        Some(Ail::Resets(place.into()))
    }

    /// What a temperature means where firmware slows the processor from a limit on, both in degrees Celsius.
    pub fn heat(&mut self, degrees: u64, limit: u64) -> Option<Fault> {
        self.hot = if self.hot { degrees + COOLER > limit } else { degrees >= limit };
        // Without the number: each other one would be news.
        let text = format!("the processor is hotter than {limit} °C, from where on firmware slows it");
        self.hot.then(|| Fault::new(Code::ProcessorHot, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resets(place: &str, moments: &[f64]) -> String {
        let line = |at: &f64| format!("[{at:>5.6}] usb {place}: reset SuperSpeed USB device number 2 using xhci_hcd\n");
        moments.iter().map(line).collect()
    }

    #[test]
    fn a_storm_of_resets_is_told_once_and_single_ones_are_not() {
        let mut ailing = Ailing::default();
        assert!(ailing.hear(&resets("2-1", &[1.0, 30.0, 70.0, 110.0, 150.0, 190.0])).is_empty());
        assert!(ailing.hear(&resets("2-1", &[300.0, 301.0])).is_empty());
        assert!(ailing.hear(&resets("1-1.2", &[302.0, 303.0])).is_empty(), "another device");
        let told = ailing.hear(&resets("2-1", &[310.0, 320.0, 330.0, 331.0]));
        assert_eq!(told, [Ail::Resets("2-1".into())]);
        assert_eq!(ailing.hear(&resets("2-1", &[340.0, 341.0, 342.0, 343.0])).len(), 1, "the next storm");
        assert!(
            ailing.hear("[  1.0] usb 2-1: new SuperSpeed USB device number 2 using xhci_hcd\nrubbish\n").is_empty()
        );
    }

    #[test]
    fn what_the_kernel_says_of_power_and_heat() {
        let of = |line: &str| match Ailing::default().hear(line).pop() {
            Some(Ail::Fault(fault)) => Some(fault.code),
            _ => None,
        };
        assert_eq!(of("[   12.1] hwmon hwmon1: Undervoltage detected!\n"), Some(Code::PowerLow));
        assert_eq!(of("[   12.1] Under-voltage detected! (0x00050005)\n"), Some(Code::PowerLow));
        assert_eq!(of("[   12.1] hwmon hwmon1: Voltage normalised\n"), None);
        let hot = "mce: CPU0: Core temperature is above threshold, cpu clock is throttled (total events = 1)";
        assert_eq!(of(&format!("[   12.1] {hot}\n")), Some(Code::ProcessorHot));
        assert_eq!(of("[   12.1] mce: CPU0: Core temperature/speed normal\n"), None);
        assert_eq!(of("[   12.1] bakelite: power-low: undervoltage detected\n"), None, "its own echo");
    }

    #[test]
    fn heat_is_over_only_when_it_is_cooler() {
        let mut ailing = Ailing::default();
        let told = [79, 80, 78, 76, 75, 79].map(|degrees| ailing.heat(degrees, 80).is_some());
        assert_eq!(told, [false, true, true, true, false, false]);
    }
}
