//! The step `replay`.

use super::damage::role;
use bakelite_spec::layout::Role;
use serde::{Deserialize, Deserializer};

/// A replay.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Replay {
    /// The disk that was recorded besides the boot medium.
    pub disk: String,
    /// At how many moments of each span the plug is pulled.
    pub points: usize,
    /// What of the recording the moments are of; without a word all of it.
    #[serde(default = "all_of_it")]
    pub spans: Vec<Span>,
    /// How many of them are booted.
    #[serde(default)]
    pub boots: usize,
    /// How many broken media have to show that the checks see something.
    #[serde(default)]
    pub control: usize,
    /// The appliance that the recorded update brings, where one is recorded to its end.
    #[serde(default)]
    pub update: Option<String>,
}

/// A part of a recording.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Span {
    /// The partition of the boot medium whose writes are the moments; without one, all writes are.
    #[serde(default, deserialize_with = "some_role")]
    pub writes_to: Option<Role>,
    /// What it begins behind.
    #[serde(default)]
    pub after: Option<Mark>,
    /// What it ends with.
    #[serde(default)]
    pub until: Option<Mark>,
}

/// The first write of a recording that holds these words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The words.
    pub words: String,
    /// The partition of the boot medium that it was for.
    #[serde(deserialize_with = "role")]
    pub to: Role,
}

fn all_of_it() -> Vec<Span> {
    vec![Span::default()]
}

fn some_role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Role>, D::Error> {
    role(deserializer).map(Some)
}
