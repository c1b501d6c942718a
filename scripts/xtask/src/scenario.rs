//! The format of a scenario: a machine, and what happens to it step by step. scripts/scenarios/README.md explains it.
//!
//! A file holds a list of scenarios. Steps are mappings with one key; unknown keys are errors.

use crate::hardware::Hardware;
use crate::steps::{Damage, Step};
use anyhow::{Context, Result, bail, ensure};
use bakelite_vm::Firmware;
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
    #[serde(deserialize_with = "in_order")]
    pub steps: Vec<Step>,
}

/// Steps that are done several times over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeat {
    times: usize,
    #[serde(deserialize_with = "in_order")]
    steps: Vec<Step>,
}

/// Steps as they come one after the other: a step `repeat` stands for its own, as often as it says.
fn in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Step>, D::Error> {
    let one = |step: Value| match step.get("repeat") {
        None => serde_json::from_value(step).map(|step| vec![step]),
        Some(repeat) => Repeat::deserialize(repeat).map(|repeat| vec![repeat.steps; repeat.times].concat()),
    };
    let steps = Vec::<Value>::deserialize(deserializer)?.into_iter().map(one);
    steps.collect::<Result<Vec<_>, _>>().map(|steps| steps.concat()).map_err(D::Error::custom)
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
            Step::BeginServer(bundle) | Step::BeginServerBehindProxy(bundle) => std::slice::from_ref(bundle),
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
                | Step::BeginServerBehindProxy(_)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::BootBus;

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
            "  - repeat: {times: 2, steps: [{boot: {}}]}\n",
            "  []\n",
        ] {
            assert!(one(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_repeated_stands_in_order() {
        let twice =
            "  - boot: {}\n  - repeat: {times: 2, steps: [{wait: 1}, {repeat: {times: 3, steps: [{wait: 2}]}}]}\n";
        let scenarios = one(twice).unwrap();
        let waits = scenarios[0].steps.iter().filter_map(|step| match step {
            Step::Wait(seconds) => Some(*seconds),
            _ => None,
        });
        assert_eq!(waits.collect::<Vec<_>>(), [1.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0, 2.0]);
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
}
