//! The sticks of a scenario: with sets, with bundles, for recovery, for installing; and what one has recorded.

use bakelite_spec::installer::State;
use bakelite_spec::quantity::Size;
use serde::Deserialize;

/// A stick.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeStick {
    /// The disk's name.
    pub name: String,
    /// Its size.
    pub size: Size,
    /// Who grants its sets.
    #[serde(default)]
    pub granted: Granted,
    /// Whether the grant's time is over.
    #[serde(default)]
    pub expired: bool,
    /// Its sets, the oldest first; one of the cluster as it is without a word.
    #[serde(default)]
    pub sets: Vec<MakeSet>,
    /// The text of a `restore.yaml` on it, as a person writes it; `$cluster` stands for the id of the cluster on the card.
    #[serde(default)]
    pub word: Option<String>,
}

impl MakeStick {
    /// A stick with these sets, granted by the owner.
    pub fn of_sets(sets: &[MakeSet]) -> Self {
        let (name, size, word) = (String::new(), Size::default(), None);
        Self { name, size, granted: Granted::Owner, expired: false, sets: sets.to_vec(), word }
    }
}

/// A recovery stick.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeRecovery {
    /// The disk's name.
    pub name: String,
    /// Who has signed it.
    #[serde(default)]
    pub signed: Granted,
    /// Sets of the cluster on the card that lie on it, granted by the owner.
    #[serde(default)]
    pub sets: Vec<MakeSet>,
    /// Whether it is an installer stick.
    #[serde(default)]
    pub installs: bool,
    /// Its table of machines, as CSV.
    #[serde(default)]
    pub rows: Option<String>,
    /// Whether it is of the line that listens.
    #[serde(default)]
    pub line: bool,
}

/// What an installer stick has recorded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StickSays {
    /// The stick's name.
    pub stick: String,
    /// The row.
    pub row: String,
    /// How far it has come.
    pub state: State,
}

/// A stick with bundles.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeBundles {
    /// The disk's name.
    pub name: String,
    /// Its size.
    pub size: Size,
    /// Its bundles.
    pub bundles: Vec<MakeBundle>,
}

/// A bundle on a stick.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MakeBundle {
    /// The appliance whose image it is of.
    pub of: String,
    /// That it is a delta against the image of this appliance.
    #[serde(default)]
    pub from: Option<String>,
    /// That it is a bundle of apps for that appliance instead.
    #[serde(default)]
    pub apps: Option<MakeApps>,
    /// Whether somebody else than the owner has signed it.
    #[serde(default)]
    pub by_a_stranger: bool,
    /// What is wrong with it.
    #[serde(default)]
    pub damage: Option<DamageBundle>,
}

/// What a server gives of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gives {
    /// All of it.
    Whole,
    /// Its first half; then the connection ends.
    Half,
    /// Its first half, and then a little each second until it gives something else.
    Slowly,
    /// That there is no such file.
    Nothing,
    /// All of it, under a certificate of an authority that nobody trusts.
    Forged,
}

/// What is in a bundle of apps: a deployment and a manifest each, and an archive of its image.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MakeApps {
    /// The appliance's version.
    pub version: String,
    /// The deployments' names.
    pub deploys: Vec<String>,
    /// Those whose image is in no archive.
    #[serde(default)]
    pub lacks: Vec<String>,
}

/// What happened to a bundle on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DamageBundle {
    /// One bit of its system is another.
    Flipped,
    /// Its second half is missing.
    Truncated,
}

/// A set on a stick: of the cluster on the card, but for what is said here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MakeSet {
    /// The node that it says it is of.
    #[serde(default)]
    pub node: Option<String>,
    /// The k3s that it says it is of.
    #[serde(default)]
    pub k3s: Option<String>,
    /// Whether its file ends half-way.
    #[serde(default)]
    pub torn: bool,
}

/// Who grants a set, or signs a stick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granted {
    /// The owner of the scenarios' appliances.
    #[default]
    Owner,
    /// Somebody else, properly.
    Stranger,
    /// There is no grant, and no signature.
    Nobody,
}

/// What lies on a recovery stick.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StickHolds {
    /// The stick.
    pub stick: String,
    /// In this folder.
    pub below: String,
    /// Files, each by words that its path contains.
    pub files: Vec<String>,
}
