//! The table of keys: each key a person may write, its type, range, default and meaning.
//!
//! One table serves four: the check of a YAML file, `bakelite explain`, the JSON schemas that editors use, and the
//! defaults of the typed [`crate::appliance::Appliance`]. A key that is not here does not exist.

mod appliance;
mod board;
mod kind;
mod lookup;
pub use appliance::APPLIANCE;
pub use board::BOARD;
pub use kind::{Form, Kind};
pub use lookup::{children, defaults, find};

/// A section for which a text may stand, and the key that the text is then meant for.
pub type ShortForm = (&'static str, fn(&str) -> &'static str);

/// All sections that have a short form.
pub const SHORT_FORMS: &[ShortForm] = &[
    ("board", |_| "name"),
    ("firewall", |_| "input"),
    ("k3s", |text| if matches!(text, "rehearsal" | "none") { "payload" } else { "version" }),
];

/// What a board may be used with: sets of modules with their firmware, by their names in module-sets.yaml.
pub const EXTRAS: &[&str] = &["audio", "display", "touch", "usb-serial", "wifi"];

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The dotted path; `[]` stands for an entry of a list, `{}` for one of a mapping with free names.
    pub path: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// The default as JSON text; empty when there is none (a section, or a value that may stay out).
    pub default: &'static str,
    /// Whether the file is of no use without it.
    pub required: bool,
    /// What it means, for a person, in one or two sentences.
    pub meaning: &'static str,
}

const fn section(path: &'static str, meaning: &'static str) -> Key {
    optional(path, Kind::Section, meaning)
}

/// A key that is off unless somebody switches it on.
const fn flag(path: &'static str, meaning: &'static str) -> Key {
    key(path, Kind::Flag, "false", meaning)
}

/// A key that may be left out, and for which nothing stands then.
const fn optional(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    key(path, kind, "", meaning)
}

const fn key(path: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { path, kind, default, required: false, meaning }
}

const fn required(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, default: "", required: true, meaning }
}
