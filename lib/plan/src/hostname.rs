//! The node's name from its pattern: stable, valid, and different on each machine.

use crate::facts::Facts;
use bakelite_spec::serial::is_individual;
use std::collections::BTreeMap;

/// The longest DNS label (RFC 1123), which is what Kubernetes takes for a node's name here.
const LONGEST: usize = 63;

/// Fills a pattern with what the seed says and what the machine is. `{serial}` and a value that no seed gives fall back to
/// the first MAC, and both to the start of the machine id, which is random.
pub fn expand(pattern: &str, facts: &Facts, seed: &BTreeMap<String, String>, board: &str) -> String {
    let mac = facts.links.iter().map(|link| label(&link.mac.replace(':', ""))).find(|mac| !mac.is_empty());
    let mac = mac.unwrap_or_else(|| label(&facts.machine_id).chars().take(8).collect());
    let serial = Some(label(&facts.serial)).filter(|serial| is_individual(&facts.serial) && !serial.is_empty());
    let mut pattern = pattern.to_string();
    while let Some((before, rest)) = pattern.split_once("{seed.") {
        let (name, after) = rest.split_once('}').unwrap_or((rest, ""));
        let value = seed.get(name).map(|value| label(value)).filter(|value| !value.is_empty());
        pattern = format!("{before}{}{after}", value.unwrap_or_else(|| mac.clone()));
    }
    let name = pattern
        .replace("{serial}", &serial.unwrap_or_else(|| mac.clone()))
        .replace("{mac}", &mac)
        .replace("{board}", &label(board));
    let name: String = label(&name).chars().take(LONGEST).collect();
    name.trim_matches('-').to_string()
}

/// Only lower-case letters, digits and inner dashes.
fn label(text: &str) -> String {
    let plain: String =
        text.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    plain.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Link;

    fn machine(serial: &str) -> Facts {
        let link = Link { mac: "52:54:00:AB:cd:01".into(), ..Link::default() };
        Facts { serial: serial.into(), links: vec![link], ..Facts::default() }
    }

    #[test]
    fn names_are_valid_and_fall_back_where_the_serial_is_junk() {
        let none = BTreeMap::new();
        let name = |serial: &str| expand("shop-{serial}", &machine(serial), &none, "rpi4");
        assert_eq!(name("10000000a3b4c5d6"), "shop-10000000a3b4c5d6");
        assert_eq!(name("ABC 12/3"), "shop-abc-12-3");
        for junk in [
            "",
            "None",
            "To Be Filled By O.E.M.",
            "0000000000000000",
            "Default string",
            "123456789",
            "XXXXXXXX",
            "Not Applicable",
            " EMPTY ",
        ] {
            assert_eq!(name(junk), "shop-52540 0abcd01".replace(' ', ""), "{junk}");
        }
        let bare = Facts { machine_id: "0123456789abcdef0123456789abcdef".into(), ..Facts::default() };
        assert_eq!(expand("n-{serial}", &bare, &none, "x"), "n-01234567");
        assert_eq!(expand("n-{serial}", &machine(&"ab".repeat(60)), &none, "x").len(), 63);
        assert_eq!(expand("{board}-{mac}", &machine("x"), &none, "qemu-x86_64"), "qemu-x86-64-525400abcd01");
        let seed = [("number".to_string(), "No. 017".to_string())].into();
        assert_eq!(expand("shop-{seed.number}", &machine("x"), &seed, "x"), "shop-no-017");
        assert_eq!(expand("{seed.other}-{seed.number}", &machine("x"), &seed, "x"), "525400abcd01-no-017");
    }
}
