//! The list of an image's parts (SBOM) in SPDX 2.3, as JSON: each Debian package with version, licence and sum, the
//! payload, and what the user added as container images.
//!
//! Licences are what a package's machine-readable copyright file says; where there is none the list says NOASSERTION
//! and nothing is guessed. Equal inputs give equal bytes: the time is the image's own.

pub mod licence;

use crate::error::{BuildError, io_error};
use crate::prepare::{Inputs, Prepared};
use crate::source::lock::LockedPackage;
use crate::tree::Tree;
use bakelite_spec::manifest::Manifest;
use licence::Licence;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const UNKNOWN: &str = "NOASSERTION";
const IMAGE: &str = "SPDXRef-Image";

/// The list's text.
///
/// # Errors
/// When a copyright file can't be read.
pub fn text(inputs: &Inputs<'_>, prepared: &Prepared, manifest: &Manifest) -> Result<Vec<u8>, BuildError> {
    let mut packages = vec![json!({
        "SPDXID": IMAGE,
        "name": format!("bakelite-image-{}", manifest.board_name),
        "versionInfo": manifest.image,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "licenseConcluded": UNKNOWN, "licenseDeclared": UNKNOWN, "copyrightText": UNKNOWN,
    })];
    let mut texts = Vec::new();
    for package in &inputs.lock.packages {
        let licence = licence_of(&prepared.packages, &package.name)?;
        texts.extend(licence.iter().flat_map(|licence| licence.texts.clone()));
        packages.push(debian(package, licence.as_ref()));
    }
    packages.push(json!({
        "SPDXID": "SPDXRef-Bakelite",
        "name": "bakelite",
        "versionInfo": manifest.version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN, "licenseDeclared": env!("CARGO_PKG_LICENSE"), "copyrightText": UNKNOWN,
    }));
    for (number, file) in manifest.payload.files.iter().enumerate() {
        packages.push(json!({
            "SPDXID": format!("SPDXRef-Payload-{number}"),
            "name": file.path.rsplit('/').next(),
            "versionInfo": manifest.payload.version,
            "downloadLocation": UNKNOWN,
            "filesAnalyzed": false,
            "primaryPackagePurpose": if file.images { "CONTAINER" } else { "APPLICATION" },
            "checksums": [{"algorithm": "SHA256", "checksumValue": file.sha256}],
            "licenseConcluded": UNKNOWN, "licenseDeclared": UNKNOWN, "copyrightText": UNKNOWN,
        }));
    }
    let contained = packages.iter().skip(1).map(|package| {
        json!({"spdxElementId": IMAGE, "relationshipType": "CONTAINS", "relatedSpdxElement": package["SPDXID"]})
    });
    let describes = json!({
        "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": IMAGE,
    });
    let relationships: Vec<Value> = std::iter::once(describes).chain(contained).collect();
    let list = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("bakelite-{}-{}", manifest.board_name, manifest.image),
        "documentNamespace": format!("https://spdx.org/spdxdocs/bakelite-{}-{}", manifest.board_name, manifest.image),
        "creationInfo": {
            "created": created(manifest.time),
            "creators": [format!("Tool: bakelite-{}", manifest.version)],
        },
        "packages": packages,
        "relationships": relationships,
        "hasExtractedLicensingInfos": texts
            .iter()
            .map(|(id, name, text)| json!({"licenseId": id, "name": name, "extractedText": text}))
            .collect::<Vec<_>>(),
    });
    let mut text =
        serde_json::to_vec_pretty(&list).map_err(|error| io_error("writing", "the list of parts")(error.into()))?;
    text.push(b'\n');
    Ok(text)
}

fn debian(package: &LockedPackage, licence: Option<&Licence>) -> Value {
    let LockedPackage { name, version, architecture, suite, sha256, .. } = package;
    let version_in_address = version.replace('%', "%25").replace('+', "%2B").replace(':', "%3A");
    json!({
        "SPDXID": format!("SPDXRef-Package-{}", licence::identifier(name)),
        "name": name,
        "versionInfo": version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256}],
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": licence.map_or(UNKNOWN, |licence| &licence.expression),
        "copyrightText": UNKNOWN,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator":
                format!("pkg:deb/debian/{name}@{version_in_address}?arch={architecture}&distro={suite}"),
        }],
    })
}

/// What a package's copyright file says, by way of links.
fn licence_of(packages: &Tree, name: &str) -> Result<Option<Licence>, BuildError> {
    let path = format!("usr/share/doc/{name}/copyright");
    let Some(blob) = packages.resolve(&path).and_then(|path| packages.blob(&path)) else { return Ok(None) };
    let text = blob.read().map_err(io_error("reading", path))?;
    Ok(licence::read(name, &text))
}

fn created(time: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(time).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment.format(&Rfc3339).unwrap_or_default()
}
