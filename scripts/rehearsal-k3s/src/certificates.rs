//! The cluster's certificates: the five CAs that the bootstrap row carries, the leaves below them, and the kubeconfigs that
//! are written only when a leaf is issued anew (which is why `server/cred` alone must never be removed, k3s.md 3.3).
//! Leaves hold 365 days and are renewed with less than 120 left; one whose time hasn't come yet is not mended (11.1).

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::error::Error;
use crate::paths::{read_if_there, write};

/// Below server/tls, without suffix.
const AUTHORITIES: [&str; 5] = ["server-ca", "client-ca", "request-header-ca", "etcd/server-ca", "etcd/peer-ca"];

/// The leaf that port 6443 shows.
pub const SERVING: &str = "serving-kube-apiserver";

/// What stands before a node's name in the name of its user.
const NODE_USER: &str = "system:node:";

struct Leaf {
    file: &'static str,
    authority: &'static str,
    common_name: &'static str,
    organisation: Option<&'static str>,
    kubeconfig: Option<&'static str>,
}

const fn client(
    file: &'static str,
    common_name: &'static str,
    organisation: Option<&'static str>,
    kubeconfig: &'static str,
) -> Leaf {
    Leaf { file, authority: "client-ca", common_name, organisation, kubeconfig: Some(kubeconfig) }
}

const LEAVES: [Leaf; 7] = [
    client("client-admin", "system:admin", Some("system:masters"), "admin"),
    client("client-supervisor", "system:rehearsal-supervisor", Some("system:masters"), "supervisor"),
    client("client-controller", "system:kube-controller-manager", None, "controller"),
    client("client-scheduler", "system:kube-scheduler", None, "scheduler"),
    client("client-kube-apiserver", "system:apiserver", Some("system:masters"), "api-server"),
    client("client-k3s-cloud-controller", "rehearsal-cloud-controller", None, "cloud-controller"),
    Leaf { file: SERVING, authority: "server-ca", common_name: "kube-apiserver", organisation: None, kubeconfig: None },
];

/// What is below `<D>/server`, and what the serving leaf is for.
pub struct Certificates<'a> {
    pub server: &'a Path,
    /// Names and addresses of the serving leaf.
    pub names: Vec<String>,
    pub port: u16,
    pub now: SystemTime,
}

impl Certificates<'_> {
    fn tls(&self, name: &str, suffix: &str) -> PathBuf {
        self.server.join("tls").join(format!("{name}.{suffix}"))
    }

    /// Makes what is missing and keeps what is there. Gives the server CA's file.
    pub fn complete(&self) -> Result<Vec<u8>, Error> {
        for name in AUTHORITIES {
            if !self.tls(name, "crt").exists() || !self.tls(name, "key").exists() {
                self.make_authority(name)?;
            }
        }
        for name in ["server-ca", "client-ca"] {
            let bytes = read(&self.tls(name, "crt"))?;
            write(&self.tls(&format!("{name}.nochain"), "crt"), &bytes, 0o644)?;
        }
        if !self.tls("service", "key").exists() {
            write(&self.tls("service", "key"), KeyPair::generate()?.serialize_pem().as_bytes(), 0o600)?;
        }
        for leaf in &LEAVES {
            if self.needs_issuing(leaf)? {
                self.issue(leaf)?;
            }
        }
        read(&self.tls("server-ca", "crt"))
    }

    /// k3s stops here when a kubeconfig is missing although its certificate isn't: the scheduler says so on a bare line,
    /// the controllers on the fatal one.
    pub fn check_kubeconfigs(&self) -> Result<(), Error> {
        let path = |name: &str| self.server.join(format!("cred/{name}.kubeconfig"));
        let (scheduler, supervisor) = (path("scheduler"), path("supervisor"));
        if !scheduler.exists() {
            eprintln!("Error: stat {}: no such file or directory", scheduler.display());
        }
        let missing = [supervisor, scheduler].into_iter().find(|path| !path.exists());
        missing.map_or(Ok(()), |path| Err(Error::FindKubeconfig(path)))
    }

    /// Why no client would trust the port at this hour, in Go's words; `None` is well.
    pub fn fault(&self, now: SystemTime) -> Result<Option<String>, Error> {
        for name in ["server-ca", SERVING] {
            let path = self.tls(name, "crt");
            let pem = read(&path)?;
            let fault = with_certificate(&path, &pem, |certificate| {
                let seconds = OffsetDateTime::from(now).unix_timestamp();
                let validity = certificate.validity();
                let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
                let outside = match (seconds < from, seconds > to) {
                    (true, _) => format!("is before {}", rfc3339(from)),
                    (_, true) => format!("is after {}", rfc3339(to)),
                    _ => return None,
                };
                Some(format!(
                    "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time {} {outside}",
                    rfc3339(seconds)
                ))
            })?;
            if fault.is_some() {
                return Ok(fault);
            }
        }
        Ok(None)
    }

    /// Chain and key for the listener.
    pub fn serving(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let mut chain = Vec::new();
        for name in [SERVING, "server-ca"] {
            let path = self.tls(name, "crt");
            let pem = read(&path)?;
            if !is_certificate(&pem) {
                return Err(Error::FindPem("certificate"));
            }
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                chain.push(certificate.map_err(|error| unreadable(&path, &error))?);
            }
        }
        let path = self.tls(SERVING, "key");
        let key = PrivateKeyDer::from_pem_slice(&read(&path)?).map_err(|_| Error::FindPem("key"))?;
        Ok((chain, key))
    }

    /// Certificate and key of the administrator, for k3s.yaml.
    pub fn administrator(&self) -> Result<(Vec<u8>, Vec<u8>), Error> {
        Ok((read(&self.tls("client-admin", "crt"))?, read(&self.tls("client-admin", "key"))?))
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from(self.now)
    }

    fn make_authority(&self, name: &str) -> Result<(), Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let common = format!("rehearsal-{}@{}", name.replace('/', "-"), self.now().unix_timestamp());
        params.distinguished_name.push(DnType::CommonName, common);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
        params.not_before = self.now();
        params.not_after = self.now() + Duration::days(3650);
        let certificate = params.self_signed(&key)?;
        write(&self.tls(name, "crt"), certificate.pem().as_bytes(), 0o644)?;
        write(&self.tls(name, "key"), key.serialize_pem().as_bytes(), 0o600)
    }

    fn needs_issuing(&self, leaf: &Leaf) -> Result<bool, Error> {
        let (path, authority) = (self.tls(leaf.file, "crt"), self.tls(leaf.authority, "crt"));
        let Some(pem) = read_if_there(&path)?.filter(|_| self.tls(leaf.file, "key").exists()) else { return Ok(true) };
        // k3s renews what has expired, and not what it can't read.
        if !is_certificate(&pem) {
            return Ok(false);
        }
        let authority_pem = read(&authority)?;
        let renewal = (self.now() + Duration::days(120)).unix_timestamp();
        with_certificate(&authority, &authority_pem, |above| {
            with_certificate(&path, &pem, |own| {
                own.verify_signature(Some(above.public_key())).is_err()
                    || own.validity().not_after.timestamp() < renewal
            })
        })?
    }

    fn issue(&self, leaf: &Leaf) -> Result<(), Error> {
        let names = if leaf.kubeconfig.is_none() { self.names.clone() } else { Vec::new() };
        let (certificate, key) = self.sign(leaf.authority, names, leaf.common_name, leaf.organisation)?;
        write(&self.tls(leaf.file, "crt"), certificate.as_bytes(), 0o644)?;
        write(&self.tls(leaf.file, "key"), key.as_bytes(), 0o600)?;
        match leaf.kubeconfig {
            Some(name) => {
                let text = self.kubeconfig(&self.tls(leaf.file, "crt"), &self.tls(leaf.file, "key"));
                write(&self.server.join(format!("cred/{name}.kubeconfig")), text.as_bytes(), 0o600)
            }
            None => Ok(()),
        }
    }

    /// The kubelet's own certificate and kubeconfig in the agent's folder, anew at each start; it acts as its node.
    pub fn write_kubelet(&self, agent: &Path, node: &str) -> Result<(), Error> {
        let (certificate, key) =
            self.sign("client-ca", Vec::new(), &format!("{NODE_USER}{node}"), Some("system:nodes"))?;
        let (certificate_path, key_path) = (agent.join("client-kubelet.crt"), agent.join("client-kubelet.key"));
        write(&certificate_path, certificate.as_bytes(), 0o600)?;
        write(&key_path, key.as_bytes(), 0o600)?;
        write(&agent.join("kubelet.kubeconfig"), self.kubeconfig(&certificate_path, &key_path).as_bytes(), 0o600)
    }

    /// A leaf with its authority behind it, and its key. One with names is a server's.
    fn sign(
        &self,
        authority: &str,
        names: Vec<String>,
        common_name: &str,
        organisation: Option<&str>,
    ) -> Result<(String, String), Error> {
        let pem = String::from_utf8_lossy(&read(&self.tls(authority, "crt"))?).into_owned();
        let issuer = Issuer::from_ca_cert_pem(&pem, load_key(&self.tls(authority, "key"))?)?;
        let key = KeyPair::generate()?;
        let usage =
            if names.is_empty() { ExtendedKeyUsagePurpose::ClientAuth } else { ExtendedKeyUsagePurpose::ServerAuth };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        if let Some(organisation) = organisation {
            params.distinguished_name.push(DnType::OrganizationName, organisation);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![usage];
        params.not_before = self.now();
        params.not_after = self.now() + Duration::days(365);
        let certificate = params.signed_by(&key, &issuer)?;
        Ok((certificate.pem() + &pem, key.serialize_pem()))
    }

    fn kubeconfig(&self, certificate: &Path, key: &Path) -> String {
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    server: https://127.0.0.1:{}\n    certificate-authority: {}\n  name: local\ncontexts:\n- context:\n    cluster: local\n    namespace: default\n    user: user\n  name: Default\ncurrent-context: Default\nkind: Config\npreferences: {{}}\nusers:\n- name: user\n  user:\n    client-certificate: {}\n    client-key: {}\n",
            self.port,
            self.tls("server-ca", "crt").display(),
            certificate.display(),
            key.display(),
        )
    }
}

/// The node that a kubelet's certificate is for.
pub fn node_of(path: &Path) -> Result<Option<String>, Error> {
    with_certificate(path, &read(path)?, |certificate| {
        let mut names = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.find_map(|name| name.strip_prefix(NODE_USER)).map(str::to_owned)
    })
}

/// The names that the serving leaf carries: k3s's fixed ones, the node, its address and `tls-san`.
pub fn serving_names(node: &str, address: IpAddr, more: &[String]) -> Vec<String> {
    let fixed =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1", "::1", "10.43.0.1"];
    let mut names: Vec<String> = fixed.iter().map(|&name| name.to_owned()).collect();
    names.extend([node.to_owned(), address.to_string()]);
    names.extend(more.iter().cloned());
    names.sort();
    names.dedup();
    names
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn rfc3339(seconds: i64) -> String {
    let time = u64::try_from(seconds).unwrap_or_default();
    crate::logrus::rfc3339(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(time))
}

fn unreadable(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::ReadCertificate { path: path.to_owned(), reason: reason.to_string() }
}

fn is_certificate(pem: &[u8]) -> bool {
    CertificateDer::from_pem_slice(pem).is_ok()
}

fn with_certificate<T>(path: &Path, pem: &[u8], ask: impl FnOnce(&X509Certificate<'_>) -> T) -> Result<T, Error> {
    let der = CertificateDer::from_pem_slice(pem).map_err(|error| unreadable(path, &error))?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| unreadable(path, &error))?;
    Ok(ask(&certificate))
}

fn load_key(path: &Path) -> Result<KeyPair, Error> {
    let key = PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| unreadable(path, &error))?;
    let pkcs8 = match key {
        PrivateKeyDer::Pkcs8(key) => key,
        PrivateKeyDer::Sec1(key) => wrap_sec1(key.secret_sec1_der()),
        _ => return Err(unreadable(path, &"not an elliptic curve key")),
    };
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256)?)
}

/// k3s writes its keys in the older SEC 1 form, which the signing library doesn't read: PKCS #8 is that form in a wrapper.
fn wrap_sec1(key: &[u8]) -> PrivatePkcs8KeyDer<'static> {
    const ALGORITHM: [u8; 21] = [
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        0x03, 0x01, 0x07,
    ];
    let octets = tagged(0x04, key);
    let body = [&[0x02, 0x01, 0x00], ALGORITHM.as_slice(), &octets].concat();
    PrivatePkcs8KeyDer::from(tagged(0x30, &body))
}

/// One DER value; lengths up to 65535, far above any key here.
fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut out = match (high, low) {
        (0, 0..=127) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn certificates(server: &Path, now: SystemTime) -> Certificates<'_> {
        let names = serving_names("node", Ipv4Addr::LOCALHOST.into(), &["extra.example".to_owned()]);
        Certificates { server, names, port: 6443, now }
    }

    #[test]
    fn leaves_are_kept_renewed_and_not_mended_as_in_k3s() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let day = |days: u64| std::time::Duration::from_secs(days * 86_400);
        let leaf = || fs::read(folder.path().join("tls/serving-kube-apiserver.crt")).unwrap();
        let ca = certificates(folder.path(), now).complete().unwrap();
        let first = leaf();
        assert_eq!(certificates(folder.path(), now + day(200)).complete().unwrap(), ca);
        assert_eq!(leaf(), first, "165 days left: kept");
        let future = now + day(300);
        certificates(folder.path(), future).complete().unwrap();
        assert_ne!(leaf(), first, "65 days left: renewed");
        let back = certificates(folder.path(), now);
        back.complete().unwrap();
        let fault = back.fault(now).unwrap().unwrap();
        assert!(fault.contains("is not yet valid") && fault.contains("is before"), "{fault}");
        fs::remove_dir_all(folder.path().join("tls")).unwrap();
        back.complete().unwrap();
        assert_eq!(back.fault(now).unwrap(), None, "the cure of 11.1");
        assert!(back.fault(now + day(3700)).unwrap().unwrap().contains("is after"));
        back.serving().unwrap();
    }

    #[test]
    fn what_a_pulled_plug_left_torn_is_kept_and_stopped_at_in_gos_words() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = certificates(folder.path(), SystemTime::now());
        certificates.complete().unwrap();
        let [certificate, key] = ["crt", "key"].map(|suffix| certificates.tls(SERVING, suffix));
        let whole = fs::read(&key).unwrap();
        for (torn, words) in [(certificate, "in certificate input"), (key.clone(), "in key input")] {
            let bytes = fs::read(&torn).unwrap();
            write(&torn, &[0; 512], 0o600).unwrap();
            certificates.complete().unwrap();
            let said = certificates.serving().unwrap_err().to_string();
            assert!(said.starts_with("tls: failed to find any PEM data") && said.ends_with(words), "{said}");
            write(&torn, &bytes, 0o600).unwrap();
        }
        assert_eq!(fs::read(&key).unwrap(), whole, "nothing was made anew");
        certificates.serving().unwrap();
    }

    #[test]
    fn kubeconfigs_come_only_with_new_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = certificates(folder.path(), SystemTime::now());
        certificates.complete().unwrap();
        certificates.check_kubeconfigs().unwrap();
        fs::remove_dir_all(folder.path().join("cred")).unwrap();
        certificates.complete().unwrap();
        assert!(matches!(certificates.check_kubeconfigs(), Err(Error::FindKubeconfig(_))));
    }
}
