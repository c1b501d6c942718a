//! The scenarios that there are, and those that are chosen.

use crate::door;
use crate::scenario::{self, Scenario, Set};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;

/// Which scenarios are wanted.
pub struct Choice {
    /// Only these names; empty for all of the set.
    pub only: Vec<String>,
    /// The set.
    pub set: Set,
}

impl Choice {
    /// How often a scenario is run: one that is asked for by its name at least once.
    pub fn runs(&self, scenario: &Scenario) -> u32 {
        let runs = scenario.runs(self.set);
        match (self.only.is_empty(), self.only.contains(&scenario.name)) {
            (true, _) => runs,
            (false, true) => runs.max(1),
            (false, false) => 0,
        }
    }
}

/// All scenarios, by the order of their files.
pub fn all(folder: &Path) -> Result<Vec<Scenario>> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for path in yaml_files(folder)? {
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        scenarios.extend(scenario::read(&path.display().to_string(), &text)?);
    }
    let mut names = BTreeSet::new();
    for scenario in &scenarios {
        if !names.insert(&scenario.name) {
            bail!("two scenarios are called {}", scenario.name);
        }
    }
    Ok(scenarios)
}

/// The YAML files right in a folder, sorted.
pub fn yaml_files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    Ok(paths)
}

/// The chosen scenarios with the number of their runs, the long ones first.
pub fn chosen(choice: &Choice) -> Result<Vec<(Scenario, u32)>> {
    let mut all = all(&door::root().join("scripts/scenarios"))?;
    all.sort_by_key(|scenario| !scenario.long);
    for name in &choice.only {
        if !all.iter().any(|scenario| scenario.name == *name) {
            bail!("there is no scenario {name}; `cargo xtask vm --list` lists them");
        }
    }
    Ok(all
        .into_iter()
        .map(|scenario| {
            let runs = choice.runs(&scenario);
            (scenario, runs)
        })
        .filter(|(_, runs)| *runs > 0)
        .collect())
}

/// Prints the chosen scenarios.
pub fn print(choice: &Choice) -> Result<bool> {
    for (scenario, runs) in &chosen(choice)? {
        println!("{:<28} {runs:>2}x  {:<12} {}", scenario.name, scenario.appliance, scenario.shows);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_read_and_their_appliances_are_there() {
        let folder = door::root().join("scripts/scenarios");
        let all = all(&folder).unwrap();
        assert!(all.len() >= 15);
        for scenario in &all {
            for name in scenario.appliances() {
                let appliance = folder.join("appliances").join(format!("{name}.yaml"));
                assert!(appliance.is_file(), "{}: no {}", scenario.name, appliance.display());
            }
        }
        let smoke = Choice { only: Vec::new(), set: Set::Smoke };
        let asked = Choice { only: vec![all[0].name.clone()], set: Set::Smoke };
        assert!(all.iter().any(|scenario| smoke.runs(scenario) == 0), "smoke is everything");
        assert_eq!(all.iter().filter(|scenario| asked.runs(scenario) > 0).count(), 1);
    }
}
