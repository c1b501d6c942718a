//! What the tests of this folder share: archives of container images and charts, made in memory.

use crate::source::digest::Sha256;
use serde_json::{Value, json};

/// Files of an archive, in order.
pub type Files = Vec<(String, Vec<u8>)>;

pub fn tar(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        builder.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn config(architecture: &str, layer: &[u8]) -> Vec<u8> {
    let (architecture, variant) = architecture.split_once('/').unwrap_or((architecture, ""));
    let id = format!("sha256:{}", Sha256::of(layer));
    json!({ "architecture": architecture, "os": "linux", "variant": variant, "rootfs": { "diff_ids": [id] } })
        .to_string()
        .into_bytes()
}

/// As `docker save` writes it: one image of one layer.
pub fn docker(name: &str, architecture: &str) -> Files {
    let layer = format!("the layer of {name}").into_bytes();
    let config = config(architecture, &layer);
    let sum = Sha256::of(&config).to_string();
    let tags: Value = if name.is_empty() { Value::Null } else { json!([name]) };
    let manifest = json!([{ "Config": format!("{sum}.json"), "RepoTags": tags, "Layers": ["1/layer.tar"] }]);
    vec![
        ("1/layer.tar".into(), layer),
        (format!("{sum}.json"), config),
        ("manifest.json".into(), manifest.to_string().into_bytes()),
    ]
}

fn blob(files: &mut Files, content: Vec<u8>) -> Value {
    let sum = Sha256::of(&content);
    let descriptor = json!({ "digest": format!("sha256:{sum}"), "size": content.len() });
    files.push((format!("blobs/sha256/{sum}"), content));
    descriptor
}

/// An OCI layout of one image for several platforms, with an attestation; the digest of its index comes along.
pub fn oci(name: &str, architectures: &[&str]) -> (Files, String) {
    let mut files = vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let mut manifests =
        vec![json!({ "digest": "sha256:x", "platform": { "os": "unknown", "architecture": "unknown" } })];
    for architecture in architectures {
        let layer = format!("layer of {name} for {architecture}").into_bytes();
        let config = blob(&mut files, config(architecture, &layer));
        let layer = blob(&mut files, layer);
        let manifest = json!({ "config": config, "layers": [layer] });
        manifests.push(blob(&mut files, manifest.to_string().into_bytes()));
    }
    let mut index = blob(&mut files, json!({ "manifests": manifests }).to_string().into_bytes());
    index["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": "1" });
    let digest = index["digest"].as_str().unwrap().to_string();
    files.push(("index.json".into(), json!({ "manifests": [index] }).to_string().into_bytes()));
    (files, digest)
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// A packaged chart with some values.
pub fn chart(values: &str) -> Vec<u8> {
    gzip(&tar(&vec![
        ("till/Chart.yaml".into(), b"apiVersion: v2\nname: till\nversion: 1.0.0\n".to_vec()),
        ("till/values.yaml".into(), values.into()),
    ]))
}
