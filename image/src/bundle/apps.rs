//! A bundle of apps: an appliance's archives of container images, manifests and charts, for machines that run it.
//!
//! They are read and judged as for an image, and taken as they are; no image is built for it, and nothing is fetched. The
//! same files, settings, key and words give the same bytes.

use super::{Made, MakeError, Wanted, note_key};
use crate::config;
use crate::error::BuildError;
use crate::host::file;
use crate::tree::Blob;
use crate::user;
use bakelite_spec::appliance::Payload;
use bakelite_spec::apps::manifest_name;
use bakelite_spec::bundle::{APPS, Bundle, FORMAT, Part};
use bakelite_spec::finding::Finding;
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::workload::holders;
use bakelite_trust::bundle;
use sha2::{Digest, Sha256};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Makes a bundle of an appliance's apps.
///
/// # Errors
/// All findings, when something in the appliance is wrong or missing; when a file can't be read, or the output can't be written; an
/// older bundle is then as it was.
pub fn make_apps(path: &Path, wanted: &Wanted<'_>) -> Result<Made, MakeError> {
    let keys = wanted.check()?;
    let findings = |findings: Vec<Finding>| MakeError::Build(BuildError::Config { findings });
    let config = config::load(path).map_err(findings)?;
    let user = user::load(&config).map_err(findings)?;
    let looked_up = user.look_up(&config, None).map_err(findings)?;
    let appliance = &config.appliance;
    let missing = |key: &str, problem: &str, hint: &str| {
        Err(findings(vec![config.placed(Finding::error(key, problem.to_string(), hint))]))
    };
    let Some(version) = appliance.image.version.clone() else {
        return missing(
            "image.version",
            "a bundle of apps needs it: machines tell by it which of two is newer, and whether an image contains them",
            "`image: {version: \"1.5\"}`",
        );
    };
    if appliance.k3s.payload == Payload::None {
        return missing("k3s", "the appliance has none, and so no apps", "a version of k3s");
    }
    let apps = user.apps().map_err(|source| MakeError::Read { path: path.into(), source })?;
    if apps.is_empty() {
        return missing("images", "there are no `images`, `manifests` or `charts` to put into a bundle", "one of them");
    }
    let parts: Vec<Part> = apps.iter().map(|(part, _)| part.clone()).collect();
    let payload = serde_json::to_value(appliance.k3s.payload).unwrap_or_default();
    let bundle = Bundle {
        format: FORMAT,
        kind: APPS.into(),
        name: appliance.image.name.clone().unwrap_or_default(),
        version,
        image: id(&parts),
        bakelite: env!("CARGO_PKG_VERSION").into(),
        board: config.board_name.clone(),
        payload: payload.as_str().unwrap_or_default().into(),
        after: wanted.after.into(),
        until: wanted.until.into(),
        drops: wanted.drops.to_vec(),
        holds: Some(holds(&apps).map_err(|source| MakeError::Read { path: path.into(), source })?),
        parts,
        ..Bundle::default()
    };
    let mut temporary = file::begin_as(wanted.output)?;
    let writing = |source| bundle::BundleError::Stream { act: "writing", source };
    let output = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    let open = |wanted: &Part| {
        let found = apps.iter().find(|(part, _)| part.name == wanted.name);
        found.ok_or(io::ErrorKind::NotFound)?.1.open()
    };
    bundle::write(&bundle, &keys, open, output)?.flush().map_err(writing)?;
    file::publish(temporary, wanted.output)?;
    let warnings = config.warnings.iter().chain(&user.warnings).chain(&looked_up).map(ToString::to_string);
    let notes = warnings.chain(note_key(&appliance.owner.keys, &keys)).collect();
    Ok(Made { bundle, notes })
}

/// What the manifests among the parts hold, in order: machines know by it beforehand what would go.
fn holds(apps: &[(Part, Blob)]) -> io::Result<Vec<String>> {
    let is_manifest = |part: &Part| part.to.as_deref().is_some_and(|to| manifest_name(to).is_some());
    let mut names = Vec::new();
    for (_, blob) in apps.iter().filter(|(part, _)| is_manifest(part)) {
        names.extend(holders(&io::read_to_string(blob.open()?)?));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// What tells this content from any other.
fn id(parts: &[Part]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(serde_json::to_vec(part).unwrap_or_default());
    }
    hexadecimal(hash.finalize())[..16].to_string()
}

#[cfg(test)]
mod tests;
