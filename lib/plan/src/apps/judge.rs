//! Whether a bundle of apps fits this machine: each refusal says what is in the way.

use super::{lost, of};
use crate::facts::Facts;
use crate::update::judge::{is_for_this, limits, nothing_else_is_on, words};
use crate::{Settings, cluster};
use bakelite_spec::appliance::Payload;
use bakelite_spec::apps::may_be_placed;
use bakelite_spec::bundle::Bundle;
use bakelite_spec::records::Datastore;
use bakelite_spec::update::compare;

/// Why a bundle of apps isn't taken.
///
/// # Errors
/// The sentence for a person.
pub fn judge(bundle: &Bundle, facts: &Facts, settings: &Settings) -> Result<(), String> {
    is_for_this(bundle, settings)?;
    let record = of(facts);
    let over = record.over(&settings.manifest);
    let is_in = over.filter(|apps| apps.id == bundle.image);
    if let Some(apps) = is_in.filter(|apps| lost(facts, apps).is_none()) {
        return Err(format!("{} are what is in", apps.words()));
    }
    let (runs, whose) = match over {
        Some(apps) => (apps.version.as_str(), "the apps that are in have"),
        None => (settings.manifest.appliance.as_str(), "the system has"),
    };
    if is_in.is_none() && compare(&bundle.version, runs).is_le() {
        return Err(format!("it isn't newer: its version is {}, and {whose} {}", words(&bundle.version), words(runs)));
    }
    limits(bundle, settings)?;
    if let Some(part) = bundle.parts.iter().find(|part| !is_well_formed(&part.name, part.to.as_deref())) {
        return Err(format!("its {} would go where nothing of a bundle goes", part.name));
    }
    if settings.manifest.payload.kind == Payload::None {
        return Err("this machine runs no k3s".into());
    }
    if cluster::datastore(settings) != Datastore::Sqlite {
        return Err(
            "the cluster's data isn't in SQLite here, and so it can't be seen whether its workloads become available"
                .into(),
        );
    }
    if cluster::of(facts).is_none() || !facts.payload_ran {
        return Err("k3s has yet to become ready here; wait until that has ended".into());
    }
    nothing_else_is_on(facts)
}

/// Whether a part has a plain name in a folder, and goes where k3s looks for such a file.
fn is_well_formed(name: &str, to: Option<&str>) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    let is_plain = !last.is_empty() && !last.starts_with('.');
    is_plain && to.is_none_or(|to| may_be_placed(to) && to.ends_with(&format!("/{last}")))
}
