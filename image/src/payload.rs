//! The payload of an image: k3s's release files, the rehearsal stand-in, or nothing; where it lies, and its hashes.

use crate::error::{BuildError, io_error};
use crate::tree::Blob;
use bakelite_spec::appliance::Payload as Kind;
use bakelite_spec::manifest::{PayloadFile, PayloadManifest};
use bakelite_spec::status::paths;

/// A payload with its bytes.
#[derive(Clone, Debug)]
pub struct Payload {
    /// What it is.
    pub manifest: PayloadManifest,
    /// The bytes of each of the manifest's files, in the same order.
    pub blobs: Vec<Blob>,
}

/// No payload.
pub fn none() -> Payload {
    let manifest =
        PayloadManifest { kind: Kind::None, version: String::new(), program: String::new(), files: Vec::new() };
    Payload { manifest, blobs: Vec::new() }
}

/// The rehearsal stand-in: one program.
///
/// # Errors
/// When it can't be read.
pub fn rehearsal(program: Blob) -> Result<Payload, BuildError> {
    let path = format!("{}/payload/rehearsal-k3s", paths::LIBRARY);
    let sha256 = program.sum().map_err(io_error("reading", "the program rehearsal-k3s"))?;
    let size = program.length();
    let file = PayloadFile { path: path.clone(), size, sha256: sha256.to_string(), images: false };
    let manifest = PayloadManifest {
        kind: Kind::Rehearsal,
        version: env!("CARGO_PKG_VERSION").into(),
        program: path,
        files: vec![file],
    };
    Ok(Payload { manifest, blobs: vec![program] })
}

/// k3s's release files, checked.
pub fn official(found: crate::source::k3s::Payload) -> Payload {
    let folder = format!("{}/payload", paths::LIBRARY);
    // On the device the program has one name, whatever the release calls it for an architecture.
    let program = format!("{folder}/k3s");
    let file = |path: String, file: &crate::source::k3s::PayloadFile, images| PayloadFile {
        path,
        size: file.size,
        sha256: file.sha256.to_string(),
        images,
    };
    let files = vec![
        file(program.clone(), &found.binary, false),
        file(format!("{folder}/{}", found.images.name), &found.images, true),
    ];
    let blob =
        |file: crate::source::k3s::PayloadFile| Blob::File { path: file.path, length: file.size, sha256: file.sha256 };
    let manifest = PayloadManifest { kind: Kind::Official, version: found.version, program, files };
    Payload { manifest, blobs: vec![blob(found.binary), blob(found.images)] }
}
