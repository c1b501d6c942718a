//! Debris: files without content that a pulled plug leaves where k3s writes without fsync, and that it then trusts for ever.
//!
//! ext4 gives a file that was written and never synced its name but not its bytes, or its length with zeros for bytes. k3s
//! (2.1, 3.3) neither notices nor mends that, so its next start fails, and the one after it. Neither is ever meant in these
//! places: certificates come back from the database (or, on a machine that never had a cluster, are made), programs are
//! unpacked again, the kubelet makes its state files anew. A file with a single byte in it is not touched.
//!
//! After a boot that was not ended in order k3s's unpacked programs are compared with their checksums, too: k3s does
//! that only while it unpacks them (k3s.md 2.1).

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::step::Decision;
use bakelite_spec::appliance::Payload as Kind;

/// Certificates and keys, which k3s makes again from the database.
pub const TLS: &str = "/var/lib/rancher/k3s/server/tls";
/// Passwords and kubeconfigs; k3s makes them again only together with the certificates.
pub const CRED: &str = "/var/lib/rancher/k3s/server/cred";
const UNPACKED: &str = "/var/lib/rancher/k3s/data";

/// The folders to look through for files without content, with all that is below them.
pub const FOLDERS: &[&str] = &[TLS, CRED, UNPACKED];
/// That what k3s has unpacked was verified in this boot.
pub const VERIFIED: &str = "/run/bakelite/unpacked-verified";
/// Single files that must have content.
pub const FILES: &[&str] = &[
    "/etc/rancher/node/password",
    "/var/lib/kubelet/cpu_manager_state",
    "/var/lib/kubelet/dra_manager_state",
    "/var/lib/kubelet/memory_manager_state",
    "/var/lib/rancher/k3s/server/token",
];

/// Decides about files without content.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None {
        return Decision::Skip("this image has no payload".into());
    }
    let below =
        |folder: &'static str| facts.hollow.iter().filter_map(move |path| path.strip_prefix(folder)?.strip_prefix('/'));
    let mut actions = Vec::new();
    if below(TLS).chain(below(CRED)).next().is_some() {
        // Both, and tls first: k3s never starts again where cred alone is missing.
        actions.extend([TLS, CRED].map(|path| Action::SetAside { path: path.into() }));
    }
    let mut versions: Vec<&str> = below(UNPACKED).filter_map(|rest| Some(rest.split_once("/bin/")?.0)).collect();
    versions.dedup();
    actions.extend(versions.into_iter().map(|version| Action::RemoveFolder { path: format!("{UNPACKED}/{version}") }));
    let files = facts.hollow.iter().filter(|path| FILES.contains(&path.as_str()));
    actions.extend(files.map(|path| Action::RemoveHollow { path: path.clone() }));
    let count = facts.hollow.len();
    if count == 0 && facts.unclean && !facts.has(VERIFIED) {
        let verified = Action::Tell { path: VERIFIED.into(), text: String::new(), mode: 0o644 };
        let actions = vec![Action::VerifyUnpacked { path: UNPACKED.into() }, verified];
        let why = "the last boot was not ended in order: k3s's unpacked programs are compared with their checksums";
        return Decision::Run(why.into(), actions);
    }
    Decision::of(
        actions,
        "no file of k3s's was left empty by a pulled plug",
        format!("{count} file(s) of k3s's were left empty by a pulled plug; k3s makes them again"),
    )
}
