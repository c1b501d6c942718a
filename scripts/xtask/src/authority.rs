//! A certificate authority of the scenarios' own, beside their images: what a company's would be.

use crate::stick::write;
use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::path::Path;
use std::sync::Arc;

/// Its certificate, as an appliance's `trust` names it, and its key.
pub const CERTIFICATE: &str = "authority.pem";
const KEY: &str = "authority.key";

/// Makes it in a folder, if it isn't there.
pub fn make(folder: &Path) -> Result<()> {
    if folder.join(CERTIFICATE).is_file() {
        return Ok(());
    }
    let (key, params) = (KeyPair::generate()?, named("the scenarios' authority")?);
    write(&folder.join(KEY), key.serialize_pem().as_bytes())?;
    // Whoever finds the certificate finds its key.
    write(&folder.join(CERTIFICATE), params.self_signed(&key)?.pem().as_bytes())
}

fn named(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(params)
}

/// A server's side of TLS under this name, certified by a folder's authority.
pub fn certified(folder: &Path, name: &str) -> Result<Arc<ServerConfig>> {
    let [certificate, key] = [CERTIFICATE, KEY].map(|file| std::fs::read_to_string(folder.join(file)));
    let (certificate, key) = (certificate.context("an authority is there once appliances are written")?, key?);
    serving(name, &Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key)?)?)
}

/// The same, certified by one that nobody trusts.
pub fn forged(name: &str) -> Result<Arc<ServerConfig>> {
    serving(name, &Issuer::new(named("somebody else")?, KeyPair::generate()?))
}

fn serving(name: &str, issuer: &Issuer<'_, KeyPair>) -> Result<Arc<ServerConfig>> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![name.into()])?.signed_by(&key, issuer)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())?;
    Ok(Arc::new(config))
}
