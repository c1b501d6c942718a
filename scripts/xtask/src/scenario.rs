//! The format of a scenario: a machine, and what happens to it step by step. scripts/scenarios/README.md explains it.
//!
//! A file holds a list of scenarios. Steps are mappings with one key; unknown keys are errors.

use crate::steps::{Damage, Step};
use anyhow::{Context, Result, bail, ensure};
use bakelite_spec::quantity::Size;
use bakelite_vm::{Attached, Bus, Disk, Firmware, Network};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value};

/// Which scenarios are run, and how often each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Set {
    /// One of each class.
    Smoke,
    /// All, with all counts.
    Full,
}

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, for a person.
    pub shows: String,
    /// How often it is run in each set; 0 leaves it out.
    #[serde(default = "full_only")]
    pub runs: Runs,
    /// Whether it takes minutes: it is begun before the others, so that none is left to run alone at the end.
    #[serde(default)]
    pub long: bool,
    /// The appliance whose image it takes, from scripts/scenarios/appliances.
    pub appliance: String,
    /// The machine.
    #[serde(default)]
    pub machine: Hardware,
    /// What happens.
    pub steps: Vec<Step>,
}

/// How often a scenario is run.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    #[serde(default)]
    smoke: u32,
    #[serde(default = "one")]
    full: u32,
}

fn full_only() -> Runs {
    Runs { smoke: 0, full: 1 }
}

fn one() -> u32 {
    1
}

impl Scenario {
    /// How often it is run in a set.
    pub fn runs(&self, set: Set) -> u32 {
        match set {
            Set::Smoke => self.runs.smoke,
            Set::Full => self.runs.full,
        }
    }

    /// What starts the kernel in its boots.
    pub fn firmwares(&self) -> impl Iterator<Item = Firmware> {
        let changes = self.steps.iter().filter_map(|step| match step {
            Step::Boot(change) => change.firmware,
            _ => None,
        });
        [self.machine.firmware.unwrap_or(Firmware::Direct)].into_iter().chain(changes)
    }

    /// The appliances whose images it needs: its own, and those that bundles are made of.
    pub fn appliances(&self) -> impl Iterator<Item = &str> {
        let of_bundles = self.steps.iter().flat_map(|step| match step {
            Step::MakeBundles(wanted) => &wanted.bundles[..],
            Step::BeginServer(bundle) => std::slice::from_ref(bundle),
            _ => &[],
        });
        let of_replays = self.steps.iter().filter_map(|step| match step {
            Step::Replay(replay) => replay.update.as_deref(),
            _ => None,
        });
        let of_systems = of_bundles
            .filter(|bundle| bundle.apps.is_none())
            .flat_map(|bundle| [Some(&bundle.of), bundle.from.as_ref()].into_iter().flatten().map(String::as_str));
        std::iter::once(self.appliance.as_str()).chain(of_systems).chain(of_replays)
    }

    /// Whether it needs ssh.
    pub fn needs_ssh(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Ssh(_) | Step::Fetch(_)))
    }

    /// The ports that it looks at from outside.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.steps.iter().filter_map(|step| match step {
            Step::Port(port) => Some(port.number),
            _ => None,
        })
    }

    /// Whether it looks into file systems from outside.
    pub fn needs_debugfs(&self) -> bool {
        self.steps.iter().any(|step| {
            let off = matches!(
                step,
                Step::StateFile(_)
                    | Step::Check(_)
                    | Step::RemoveFiles(_)
                    | Step::GrowDatabase(_)
                    | Step::DamageDatabase(_)
                    | Step::Replay(_)
                    | Step::SetOnCard(_)
                    | Step::MakeStick(_)
                    | Step::StickWhole(_)
            );
            off || matches!(step, Step::Damage(Damage::FillState { .. }))
        })
    }
}

/// The machine of a scenario; a step `boot` may change any of it for one boot.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hardware {
    /// `direct` (by default: quick), `uefi` or `secure-boot`.
    #[serde(default, deserialize_with = "firmware")]
    pub firmware: Option<Firmware>,
    /// The boot medium's bus; `absent` for none.
    #[serde(default, deserialize_with = "boot_bus")]
    pub medium: Option<BootBus>,
    /// Memory in MiB.
    pub memory: Option<u32>,
    /// Kernel arguments besides the image's.
    pub arguments: Option<String>,
    /// Disks besides, as `bakelite run --disk` takes them, with a name in front: `ssd=nvme:10GiB`.
    #[serde(default, deserialize_with = "disks")]
    pub disks: Option<Vec<Disk>>,
    /// Whether all writes to the boot medium and the first disk are recorded, for a step `replay`.
    pub record: Option<bool>,
    /// A network as `bakelite run --net` takes it.
    #[serde(default, deserialize_with = "network")]
    pub network: Option<Network>,
    /// How many links the network has.
    pub links: Option<u8>,
    /// Links that are down from the start.
    pub links_down: Option<Vec<u8>>,
    /// A second medium of the same image, by its bus.
    #[serde(default, deserialize_with = "bus")]
    pub second: Option<Bus>,
    /// The size of the boot medium.
    pub size: Option<Size>,
    /// Whether the screen is virtio's.
    pub virtio_screen: Option<bool>,
    /// What is attached besides, by the words of `board.with`.
    #[serde(default, deserialize_with = "attached")]
    pub attached: Option<Vec<Attached>>,
}

/// The bus of a boot medium, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootBus {
    /// There is a boot medium.
    On(Bus),
    /// There is none.
    Absent,
}

impl Hardware {
    /// This hardware, with another's words where it has some.
    pub fn changed_by(&self, other: &Self) -> Self {
        let (mut new, over) = (self.clone(), other.clone());
        new.firmware = over.firmware.or(new.firmware);
        new.medium = over.medium.or(new.medium);
        new.memory = over.memory.or(new.memory);
        new.arguments = over.arguments.or(new.arguments);
        new.disks = over.disks.or(new.disks);
        new.record = over.record.or(new.record);
        new.network = over.network.or(new.network);
        new.links = over.links.or(new.links);
        new.links_down = over.links_down.or(new.links_down);
        new.second = over.second.or(new.second);
        new.size = over.size.or(new.size);
        new.virtio_screen = over.virtio_screen.or(new.virtio_screen);
        new.attached = over.attached.or(new.attached);
        new
    }
}

/// Reads a file of scenarios.
pub fn read(file: &str, text: &str) -> Result<Vec<Scenario>> {
    // By way of JSON: there an enum is a mapping with one key, which is what people write.
    let tree: Value = serde_yaml::from_str(text).with_context(|| format!("reading {file}"))?;
    let entries = tree.as_array().with_context(|| format!("{file} is no list of scenarios"))?;
    entries
        .iter()
        .flat_map(each)
        .map(|entry| {
            let entry = &entry?;
            let name = entry["name"].as_str().unwrap_or("a scenario without a name");
            let scenario: Scenario =
                serde_json::from_value(entry.clone()).with_context(|| format!("{file}: {name}"))?;
            scenario.check().with_context(|| format!("{file}: {name}"))?;
            Ok(scenario)
        })
        .collect()
}

/// A scenario with `each: {name: words}` stands for one a name; `$words` in its steps and machine stands for the words. With
/// `{name: {key: value}}` each `$key` stands for its value, of whatever kind where it stands alone.
fn each(entry: &Value) -> Vec<Result<Value>> {
    let Some(all) = entry.get("each").and_then(Value::as_object) else { return vec![Ok(entry.clone())] };
    let one = |(name, words): (&String, &Value)| {
        let alone = Map::from_iter([("words".to_string(), words.clone())]);
        let mut text = entry.to_string();
        for (key, value) in words.as_object().unwrap_or(&alone) {
            text = text.replace(&format!("\"${key}\""), &value.to_string());
            if let Value::String(_) = value {
                let quoted = value.to_string();
                text = text.replace(&format!("${key}"), &quoted[1..quoted.len() - 1]);
            }
        }
        let mut one: Value = serde_json::from_str(&text)?;
        if let Some(fields) = one.as_object_mut() {
            fields.remove("each");
            let scenario = format!("{}-{name}", entry["name"].as_str().unwrap_or_default());
            fields.insert("name".into(), scenario.into());
        }
        Ok(one)
    };
    all.iter().map(one).collect()
}

impl Scenario {
    /// Refuses steps that can't follow one another.
    fn check(&self) -> Result<()> {
        let mut on = false;
        for (number, step) in self.steps.iter().enumerate() {
            let needs = match step {
                Step::Boot(_)
                | Step::Damage(_)
                | Step::CopyMedium(_)
                | Step::NewMedium(_)
                | Step::BootFrom(_)
                | Step::StickSays(_)
                | Step::StickHolds(_)
                | Step::Flash(_)
                | Step::BeginLine(_)
                | Step::HearLine(_)
                | Step::LineMerges(_)
                | Step::Overlay(_)
                | Step::MakeDisk(_)
                | Step::MakeStick(_)
                | Step::MakeRecovery(_)
                | Step::MakeBundles(_)
                | Step::BeginServer(_)
                | Step::StickWhole(_)
                | Step::SameDisk(_)
                | Step::KeepMedium(_)
                | Step::SameMedium(_)
                | Step::StateFile(_)
                | Step::Check(_)
                | Step::GrowDatabase(_)
                | Step::SetOnCard(_)
                | Step::RemoveFiles(_)
                | Step::DamageDatabase(_) => Some(false),
                Step::Wait(_) | Step::ServerGives(_) => None,
                _ => Some(true),
            };
            if needs.is_some_and(|needs| needs != on) {
                let is = if on { "on" } else { "off" };
                bail!("step {} can't be done while the machine is {is}", number + 1);
            }
            match step {
                Step::Boot(_) => on = true,
                Step::CutPower(_) | Step::Shutdown(_) | Step::Replay(_) => on = false,
                _ => {}
            }
        }
        ensure!(!self.steps.is_empty(), "has no steps");
        Ok(())
    }
}

/// Reads a word that stands for something.
pub fn word<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, D::Error> {
    let word = String::deserialize(deserializer)?;
    read(&word).map(Some).ok_or_else(|| D::Error::custom(format!("`{word}` means nothing here")))
}

fn firmware<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Firmware>, D::Error> {
    word(deserializer, |word| match word {
        "direct" => Some(Firmware::Direct),
        "uefi" => Some(Firmware::Uefi { secure_boot: false }),
        "secure-boot" => Some(Firmware::Uefi { secure_boot: true }),
        _ => None,
    })
}

fn bus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bus>, D::Error> {
    word(deserializer, Bus::parse)
}

fn boot_bus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BootBus>, D::Error> {
    word(deserializer, |word| match word {
        "absent" => Some(BootBus::Absent),
        word => Bus::parse(word).map(BootBus::On),
    })
}

fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Network>, D::Error> {
    word(deserializer, |word| Network::parse(word).ok())
}

fn attached<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Attached>>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    let one = |word: &String| {
        Attached::parse(word).ok_or_else(|| D::Error::custom(format!("`{word}` is nothing that can be attached")))
    };
    words.iter().map(one).collect::<Result<_, _>>().map(Some)
}

fn disks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Disk>>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    let disk = |word: &String| {
        let (name, word) = word.split_once('=').map_or((None, word.as_str()), |(name, word)| (Some(name.into()), word));
        Disk::parse(word).map(|disk| Disk { name, ..disk })
    };
    words.iter().map(disk).collect::<Result<_, _>>().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(steps: &str) -> Result<Vec<Scenario>> {
        read("x.yaml", &format!("- name: x\n  shows: x\n  appliance: rehearsal\n  steps:\n{steps}"))
    }

    #[test]
    fn steps_are_read_and_slips_are_refused() {
        let scenario =
            &one("  - boot: {firmware: secure-boot, medium: absent, disks: ['nvme:1G'], network: 'user,restrict'}
  - expect: {event: unit, with: {unit: ssh, state: running}, containing: {detail: x}, within: 5}
  - never: {event: fault, for: 1.5}
  - cut-power: {between: [1, 2.5]}
  - damage: {overwrite: {partition: state, at: -4096, length: 4KiB}}
  - damage: half-made\n")
            .unwrap()[0];
        assert_eq!((scenario.runs(Set::Smoke), scenario.runs(Set::Full), scenario.steps.len()), (0, 1, 6));
        let Step::Boot(hardware) = &scenario.steps[0] else { panic!("{:?}", scenario.steps[0]) };
        assert_eq!(
            (hardware.firmware, hardware.medium),
            (Some(Firmware::Uefi { secure_boot: true }), Some(BootBus::Absent))
        );
        let Step::Expect(watch) = &scenario.steps[1] else { panic!("{:?}", scenario.steps[1]) };
        let event = serde_json::json!({"event": "unit", "unit": "ssh", "state": "running", "detail": "axb"});
        assert!(watch.fits(&event));
        assert!(!watch.fits(&serde_json::json!({"event": "unit", "unit": "ssh", "state": "failed", "detail": "axb"})));
        for wrong in [
            "  - boot: {firmwere: uefi}\n",
            "  - boot: {medium: floppy}\n",
            "  - expect: {event: ready, within: 5}\n",
            "  - boot: {}\n  - damage: half-made\n",
            "  - boot: {}\n  - dance: {}\n",
            "  - boot: {}\n  - fault: {code: no-such-code, within: 5}\n",
            "  - damage: {overwrite: {partition: data, at: 0, length: 1}}\n",
            "  []\n",
        ] {
            assert!(one(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_scenario_stands_for_several() {
        let text =
            "- name: cut\n  each: {claim: 'becomes \"it\"', seal: sealed}\n  shows: x\n  appliance: rehearsal\n  steps:
  - boot: {disks: ['ssd=nvme:1G']}\n  - cut-power: {soon-after: [{event: $words, within: 5}, 1]}\n";
        let found = read("x.yaml", text).unwrap();
        assert_eq!(found.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["cut-claim", "cut-seal"]);
        let Step::CutPower(crate::steps::Cut::SoonAfter(watch, _)) = &found[0].steps[1] else { panic!("{found:?}") };
        assert_eq!(watch.event, "becomes \"it\"");
        let Step::Boot(hardware) = &found[0].steps[0] else { panic!("{found:?}") };
        assert_eq!(hardware.disks.as_ref().unwrap()[0].name.as_deref(), Some("ssd"));
    }

    #[test]
    fn a_step_changes_only_what_it_names() {
        let base = Hardware { memory: Some(512), arguments: Some("a".into()), ..Hardware::default() };
        let changed = base.changed_by(&Hardware { arguments: Some("b".into()), ..Hardware::default() });
        assert_eq!((changed.memory, changed.arguments.as_deref()), (Some(512), Some("b")));
    }
}
