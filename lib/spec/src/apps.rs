//! Apps: archives of container images, manifests and charts that a bundle has laid over those of the image.
//!
//! One record beside the store names what counts; it is replaced as a whole, so a cut leaves the old or the new. An image has
//! a part that may be laid over: the archives, manifests and charts of its appliance. k3s's own archives, settings and
//! whatever else an image brings stay the image's. What follows from the record is decided in `plan`.

use crate::bundle::{Bundle, Part};
use crate::manifest::{Manifest, Pass, PayloadFile, PlacedFile};
use crate::secret::Quoting;
use crate::update::compare;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The record, on the medium that k3s's data is on: it moves with that.
pub const RECORD: &str = "/var/lib/rancher/bakelite/apps/apps.json";
/// The store: a folder for each digest, and in it the file under its own name.
pub const STORE: &str = "/var/lib/rancher/bakelite/apps/store";
/// The folder of a file while it is written, in the store.
pub const INCOMING: &str = "incoming";
/// What became of the last bundle.
pub const LAST: &str = "/var/lib/bakelite/last-apps.json";
/// What is still missed of the apps that are tried, in words; not empty while something is.
pub const MISSING: &str = "/run/bakelite/apps-missing";
/// The format of the records.
pub const FORMAT: u32 = 1;
/// So many starts of the machine a bundle may take until it has proved itself.
pub const STARTS: u32 = 3;

/// Where k3s deploys manifests from (k3s.md 5.5).
pub const MANIFESTS: &str = "/var/lib/rancher/k3s/server/manifests";
/// Where k3s serves charts from.
pub const CHARTS: &str = "/var/lib/rancher/k3s/server/static/charts";
/// Where an image has the archives of its appliance.
pub const ARCHIVES: &str = "/usr/lib/bakelite/payload/images";
/// A manifest without an object, in each image: in place of another one, k3s deletes what that had.
pub const NOTHING: &str = "/usr/lib/bakelite/nothing.yaml";
/// What is in it. An empty list is YAML and JSON (k3s: pkg/deploy, `toObjects`).
pub const NOTHING_TEXT: &str = "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[]}\n";

/// An archive of container images in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Its name, by whose ending k3s unpacks it.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// Under which round k3s finds it: k3s imports anew what has another name.
    pub round: u32,
}

/// A manifest or chart in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// Where k3s looks for it.
    pub to: String,
    /// How secrets are put into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoting: Option<Quoting>,
}

/// What one bundle has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apps {
    /// The appliance's version.
    pub version: String,
    /// What tells its content from any other.
    pub id: String,
    /// When it was put in, in seconds since 1970.
    pub at: i64,
    /// Archives of container images.
    pub archives: Vec<Archive>,
    /// Manifests and charts.
    pub files: Vec<File>,
}

/// That what is laid over has yet to prove itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What it took the place of; without it that was the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Apps>,
    /// The workloads that were available before, and are to be so again.
    pub workloads: Vec<String>,
    /// Its own, as its manifests have them.
    pub own: Vec<String>,
    /// The boot that it was last seen in.
    pub boot: String,
    /// Since when it has been tried in that boot, in seconds since the kernel started.
    pub since: u64,
    /// In how many more boots it may be tried.
    pub starts: u32,
}

/// What is laid over the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// What; without it the image's own counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<Apps>,
    /// There while it is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// Manifests that were there before and don't come back, by their files' names: k3s has to delete what they had.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub gone: BTreeSet<String>,
    /// The last round that archives were put in place in.
    pub round: u32,
    /// The round of the image's own archives.
    pub own_round: u32,
}

impl Archive {
    /// Its path.
    pub fn path(&self) -> String {
        format!("{STORE}/{}", self.stored())
    }

    /// Its path in the store.
    fn stored(&self) -> String {
        stored(&self.sha256, &self.name)
    }
}

impl File {
    /// The last part of its path.
    pub fn name(&self) -> &str {
        last(&self.to)
    }

    /// Its path.
    pub fn path(&self) -> String {
        format!("{STORE}/{}", self.stored())
    }

    /// Its path in the store.
    fn stored(&self) -> String {
        stored(&self.sha256, self.name())
    }

    /// As the image would have it.
    fn placed(&self) -> PlacedFile {
        placed(self.path(), self.to.clone(), self.quoting)
    }
}

impl Apps {
    /// What a bundle brings. What is in the store already stays under the name and round that it has.
    pub fn of(bundle: &Bundle, at: i64, there: Option<&Self>, round: u32) -> Self {
        let known = |part: &Part| there?.archives.iter().find(|known| known.sha256 == part.sha256).cloned();
        let archive = |part: &Part| {
            let name = last(&part.name).into();
            Archive { name, size: part.size, sha256: part.sha256.clone(), round }
        };
        let archives = bundle.parts.iter().filter(|part| part.to.is_none());
        let file = |part: &Part| {
            let (sha256, quoting) = (part.sha256.clone(), part.quoting);
            Some(File { size: part.size, sha256, to: part.to.clone()?, quoting })
        };
        Self {
            version: bundle.version.clone(),
            id: bundle.image.clone(),
            at,
            archives: archives.map(|part| known(part).unwrap_or_else(|| archive(part))).collect(),
            files: bundle.parts.iter().filter_map(file).collect(),
        }
    }

    /// What names it for a person.
    pub fn words(&self) -> String {
        format!("apps {} ({})", self.version, self.id)
    }

    /// All its files: the paths in the store, and the bytes.
    pub fn stored(&self) -> impl Iterator<Item = (String, u64)> {
        let archives = self.archives.iter().map(|archive| (archive.stored(), archive.size));
        archives.chain(self.files.iter().map(|file| (file.stored(), file.size)))
    }

    /// The names of its manifests.
    fn manifests(&self) -> impl Iterator<Item = String> {
        self.files.iter().filter_map(|file| manifest_name(&file.to)).map(String::from)
    }

    /// The same, such that k3s imports all of its archives anew.
    fn in_round(mut self, round: u32) -> Self {
        self.archives.iter_mut().for_each(|archive| archive.round = round);
        self
    }
}

impl Trial {
    /// The manifests and charts from before that the new ones don't have.
    fn kept(&self, new: &Apps, manifest: &Manifest) -> Vec<PlacedFile> {
        let own = || manifest.user.placed.iter().filter(|file| is_own_file(file)).cloned().collect::<Vec<_>>();
        let before = self.before.as_ref().map_or_else(own, |before| before.files.iter().map(File::placed).collect());
        let is_new = |file: &PlacedFile| new.files.iter().any(|new| is_same(&new.to, &file.to));
        before.into_iter().filter(|file| !is_new(file)).collect()
    }
}

impl Record {
    /// Reads the record; what can't be read is none.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|record: &Self| record.format == FORMAT)
    }

    /// Whether the image's own version is as new as what is laid over: then the image's own counts.
    pub fn is_contained(&self, manifest: &Manifest) -> bool {
        self.apps.as_ref().is_some_and(|apps| compare(&apps.version, &manifest.appliance).is_le())
    }

    /// What is laid over an image.
    pub fn over(&self, manifest: &Manifest) -> Option<&Apps> {
        self.apps.as_ref().filter(|_| !self.is_contained(manifest))
    }

    /// What has yet to prove itself.
    pub fn tried(&self) -> Option<&Apps> {
        self.apps.as_ref().filter(|_| self.trial.is_some())
    }

    /// The image's manifest with what is laid over it.
    pub fn lay(&self, manifest: &Manifest) -> Manifest {
        let mut laid = manifest.clone();
        let mut gone = self.gone.clone();
        if let Some(apps) = self.over(manifest) {
            laid.payload.files.retain(|file| !is_own_archive(file));
            laid.payload.files.extend(apps.archives.iter().map(|archive| PayloadFile {
                path: archive.path(),
                size: archive.size,
                sha256: archive.sha256.clone(),
                images: true,
            }));
            laid.user.placed.retain(|file| !is_own_file(file));
            laid.user.placed.extend(apps.files.iter().map(File::placed));
            match &self.trial {
                // Nothing is deleted before there is no way back: what is deleted may be somebody's data.
                Some(trial) => laid.user.placed.extend(trial.kept(apps, manifest)),
                None => gone.extend(own_manifests(manifest)),
            }
        }
        // k3s knows a manifest by what stands before its first dot.
        let there: BTreeSet<String> = own_manifests(&laid).map(|name| addon(&name).to_string()).collect();
        let gone = gone.into_iter().filter(|name| !there.contains(addon(name)));
        laid.user.placed.extend(gone.map(|name| placed(NOTHING.into(), format!("{MANIFESTS}/{name}"), None)));
        laid
    }

    /// The round of a file of the laid manifest.
    pub fn round(&self, file: &PayloadFile, manifest: &Manifest) -> u32 {
        if is_own_archive(file) {
            return if self.is_contained(manifest) { self.round + 1 } else { self.own_round };
        }
        let archives = self.apps.iter().flat_map(|apps| &apps.archives);
        archives.into_iter().find(|archive| archive.path() == file.path).map_or(0, |archive| archive.round)
    }

    /// The record with a bundle's apps, to be tried.
    #[must_use]
    pub fn begun(&self, apps: Apps, trial: Trial) -> Self {
        let trial = Some(Trial { before: self.apps.clone(), ..trial });
        Self { format: FORMAT, apps: Some(apps), trial, round: self.round + 1, ..self.clone() }
    }

    /// The record once they have proved themselves.
    #[must_use]
    pub fn proved(&self) -> Self {
        let before = self.trial.iter().flat_map(|trial| &trial.before);
        let gone = self.gone.iter().cloned().chain(before.flat_map(Apps::manifests)).collect();
        Self { trial: None, gone, ..self.clone() }
    }

    /// The record with what was there before, or else the image's own.
    #[must_use]
    pub fn undone(&self) -> Self {
        let round = self.round + 1;
        let before = self.trial.as_ref().and_then(|trial| trial.before.clone()).map(|before| before.in_round(round));
        let own_round = if before.is_none() { round } else { self.own_round };
        let gone = self.gone.iter().cloned().chain(self.apps.iter().flat_map(Apps::manifests)).collect();
        Self { format: FORMAT, apps: before, trial: None, gone, round, own_round }
    }

    /// The record once an image contains what was laid over, and has proved itself.
    #[must_use]
    pub fn left_to_the_image(&self) -> Self {
        let round = self.round + 1;
        Self { format: FORMAT, round, own_round: round, ..Self::default() }
    }

    /// The folders of the store that count.
    pub fn digests(&self) -> BTreeSet<&str> {
        let before = self.trial.iter().flat_map(|trial| &trial.before);
        let all = self.apps.iter().chain(before);
        all.flat_map(|apps| {
            let archives = apps.archives.iter().map(|archive| archive.sha256.as_str());
            archives.chain(apps.files.iter().map(|file| file.sha256.as_str()))
        })
        .collect()
    }

    /// What became of what is tried, at a time in seconds since 1970; `why` is empty where it has proved itself.
    pub fn ended(&self, at: i64, why: &str) -> Ended {
        let before = self.trial.as_ref().and_then(|trial| trial.before.as_ref());
        Ended {
            format: FORMAT,
            at,
            id: self.apps.as_ref().map(|apps| apps.id.clone()).unwrap_or_default(),
            to: self.apps.as_ref().map(Apps::words).unwrap_or_default(),
            from: before.map_or_else(|| "the image's own".into(), Apps::words),
            why: why.into(),
        }
    }
}

/// What became of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ended {
    /// [`FORMAT`].
    pub format: u32,
    /// When, in seconds since 1970.
    pub at: i64,
    /// What tells its content from any other.
    pub id: String,
    /// What was tried, in words.
    pub to: String,
    /// What was there before, in words.
    pub from: String,
    /// Why it was undone; empty where it is what counts since.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Ended {
    /// In words.
    pub fn words(&self) -> String {
        match self.why.as_str() {
            "" => format!("{} took the place of {}", self.to, self.from),
            why => format!("{} went back to {}: {why}", self.to, self.from),
        }
    }
}

/// The name by which k3s knows what a manifest has deployed (k3s: pkg/deploy, `basename`).
pub fn addon(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Whether two paths are the same to k3s.
fn is_same(one: &str, other: &str) -> bool {
    match (manifest_name(one), manifest_name(other)) {
        (Some(one), Some(other)) => addon(one) == addon(other),
        _ => one == other,
    }
}

/// The name of a manifest that k3s deploys from this path.
pub fn manifest_name(to: &str) -> Option<&str> {
    to.strip_prefix(MANIFESTS)?.strip_prefix('/')
}

/// Whether a path is one that a bundle's file may have: directly in one of the two folders, under a name of ours or a chart's.
pub fn may_be_placed(to: &str) -> bool {
    let chart = || to.strip_prefix(CHARTS)?.strip_prefix('/');
    let is_plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    manifest_name(to).is_some_and(|name| is_plain(name) && name.starts_with("bakelite-"))
        || chart().is_some_and(is_plain)
}

/// Whether a file of an image is an archive that a bundle takes the place of.
pub fn is_own_archive(file: &PayloadFile) -> bool {
    file.images && file.path.strip_prefix(ARCHIVES).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a file of an image is a manifest or a chart that a bundle takes the place of.
fn is_own_file(file: &PlacedFile) -> bool {
    [MANIFESTS, CHARTS].iter().any(|folder| file.to.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
}

fn own_manifests(manifest: &Manifest) -> impl Iterator<Item = String> {
    manifest.user.placed.iter().filter_map(|file| manifest_name(&file.to)).map(String::from)
}

fn placed(from: String, to: String, quoting: Option<Quoting>) -> PlacedFile {
    PlacedFile { from, to, mode: 0o600, owner: 0, group: 0, quoting, pass: Pass::Settle }
}

fn stored(sha256: &str, name: &str) -> String {
    format!("{sha256}/{name}")
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests;
