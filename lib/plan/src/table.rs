//! Facts as a table that a person reads; programs read them as JSON.

use crate::disk::{Disk, Proof};
use crate::facts::Facts;
use crate::{cluster, home, identity, latency};
use bakelite_spec::answer::pairs;
use bakelite_spec::quantity::Size;

/// The table.
pub fn text(facts: &Facts) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise.into() } else { text.to_string() };
    rows.push(("node", identity::of(facts).map_or("has no identity yet".into(), |identity| identity.node)));
    rows.push(("serial", or(&facts.serial, "none worth the name")));
    rows.push(("memory", Size(facts.memory).human()));
    let clock = if facts.clock_is_set { "set by the network" } else { "not compared with the network yet" };
    rows.push(("clock", clock.into()));
    let last = if facts.unclean { "was not ended in order" } else { "was ended in order, or is the first" };
    rows.push(("last boot", last.into()));
    rows.push(("state", if facts.state_is_durable { "on the card" } else { "in memory: gone at power-off" }.into()));
    for link in &facts.links {
        let carrier = if link.carrier { "connected" } else { "no cable, or nothing at its other end" };
        rows.push(("link", format!("{} {}, {carrier}", link.name, link.mac)));
    }
    if let Some((link, address)) = &facts.address {
        rows.push(("address", format!("{address} on {link}")));
    }
    let lives = match home::of(facts) {
        Some(home) => home.needs().map_or("on the card".into(), |disk| format!("on the data disk ({})", disk.words)),
        None => "nowhere for good yet: on the card, while there is no data disk".into(),
    };
    rows.push(("k3s's data", lives));
    if let Some(born) = cluster::of(facts) {
        rows.push((
            "cluster",
            format!("revision {} was durable, with {}, epoch {}", born.revision, born.k3s, born.epoch),
        ));
    }
    if let Some(database) = &facts.database {
        rows.push(("database", format!("revision {}", database.revision)));
    }
    let measured = latency::all(facts);
    for disk in &facts.disks {
        rows.push(("disk", format!("{}, {}: {}", disk.words(), disk.kind(), state(disk))));
        if let Some(latency) = measured.get(&disk.key()) {
            rows.push(("", latency.words()));
        }
    }
    pairs(&rows)
}

/// What is known of a disk, the gravest first.
fn state(disk: &Disk) -> String {
    let mut words: Vec<String> = Vec::new();
    let flags = [(disk.boot, "this machine was booted from it"), (disk.removable, "its medium can be taken out")];
    words.extend(flags.iter().filter(|(is, _)| *is).map(|(_, text)| (*text).to_string()));
    if !disk.ails.is_empty() {
        words.push(disk.ails.clone());
    }
    if !disk.used_by.is_empty() {
        words.push(format!("in use by {}", disk.used_by.join(", ")));
    }
    match &disk.data {
        Some(data) if data.attached => words.push("the data disk of this machine".into()),
        Some(data) if data.born => words.push("a data disk, not in use".into()),
        Some(_) => words.push("a data disk that was never finished".into()),
        None => {}
    }
    match &disk.proof {
        Some(Proof::Blank) => words.push("it is blank".into()),
        Some(Proof::EmptyFilesystem(kind)) => words.push(format!("it has an empty {kind}")),
        Some(Proof::Stick) => words.push("a stick of Bakelite's".into()),
        Some(Proof::Begun) => words.push("a stick has begun to put a system onto it".into()),
        Some(Proof::Holds(what)) => words.push(format!("it holds {what}")),
        Some(Proof::Unreadable(why)) => words.push(format!("it can't be read: {why}")),
        None if words.is_empty() => words.push("not looked at in this boot".into()),
        None => {}
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_reads_as_lines() {
        let disk = |name: &str| Disk { name: name.into(), transport: "nvme".into(), size: 2 << 30, ..Disk::default() };
        let disks = vec![
            Disk { boot: true, ..disk("mmcblk0") },
            Disk { proof: Some(Proof::Holds("LUKS".into())), serial: "S1".into(), ..disk("nvme0n1") },
            disk("sda"),
        ];
        let record = r#"{"S1":{"median":400,"slow":12000}}"#.to_string();
        let files = [(latency::RECORD.to_string(), record)].into();
        let text = text(&Facts { memory: 1 << 30, disks, files, unclean: true, ..Facts::default() });
        for line in [
            "memory      1 GiB\n",
            "last boot   was not ended in order\n",
            "state       in memory: gone at power-off\n",
            "disk        mmcblk0 (2 GiB), nvme: this machine was booted from it\n",
            "disk        nvme0n1 (serial S1, 2 GiB), nvme: it holds LUKS\n            4 KiB are durable after 0.4 ms",
            "disk        sda (2 GiB), nvme: not looked at in this boot\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
