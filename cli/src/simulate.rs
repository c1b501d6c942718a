//! `bakelite simulate`: a machine in a file and an appliance, and what firstboot would do, without a device.

use bakelite_image::{BuildError, config};
use bakelite_plan::facts::Facts;
use bakelite_plan::seed::Seed;
use bakelite_plan::{Local, Settings, forecast};
use bakelite_spec::appliance::Appliance;
use bakelite_spec::finding::Finding;
use bakelite_spec::layers::Layer;
use bakelite_spec::manifest::{Manifest, PayloadManifest};
use std::path::Path;

/// The forecast's lines.
///
/// # Errors
/// All findings in the appliance, or what is wrong with the machine's file.
pub fn simulate(path: &Path, machine: &Path) -> Result<String, BuildError> {
    let mut config = config::load(path).map_err(|findings| BuildError::Config { findings })?;
    let file = machine.display().to_string();
    let refused = |problem: String| {
        let hint = "the names that `bakelite facts --json` on a device prints";
        let finding = Finding { file: file.clone(), ..Finding::error("", problem, hint) };
        BuildError::Config { findings: vec![finding] }
    };
    let text = std::fs::read_to_string(machine).map_err(|error| refused(format!("can't be read: {error}")))?;
    // By way of JSON: there an enum is a mapping with one key, which is what people write.
    let tree: serde_json::Value = serde_yaml::from_str(&text).map_err(|error| refused(error.to_string()))?;
    let facts: Facts = serde_json::from_value(tree).map_err(|error| refused(error.to_string()))?;
    if let Some(Seed::New(seed)) = &facts.seed {
        let effective = config.effective.clone().with(Layer::Seed, &seed.settings);
        config.appliance =
            Appliance::from_values(&effective.values).map_err(|error| refused(format!("its seed: {error}")))?;
    }
    Ok(forecast::text(&facts, &settings(config)))
}

/// What an image of this appliance would say of itself, as far as decisions need it.
fn settings(config: config::Config) -> Settings {
    let payload = PayloadManifest {
        kind: config.appliance.k3s.payload,
        version: config.appliance.k3s.version.clone(),
        program: String::new(),
        files: Vec::new(),
    };
    let manifest = Manifest::unbaked(config.board_name, config.board, payload);
    Settings { appliance: config.appliance, manifest, local: Local::default() }
}
