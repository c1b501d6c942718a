//! References to secrets: `{secret: name}` and `{seed: name}`, in place of values that must never be in an image.
//!
//! An appliance says which secret is meant, never what it is. The value is a file of that name on the state partition
//! (for `seed`, brought there by the flasher's seed), and only the device puts the two together, in [`render`]. A
//! value must never come into a plan, a log or an error: nothing here prints one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Where the device keeps secrets, a file of mode 0600 for each name.
pub const FOLDER: &str = "/var/lib/bakelite/secrets";

/// A reference to a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretRef {
    /// A person brings it to the machine.
    Secret(String),
    /// The seed brings it, with which the medium is flashed.
    Seed(String),
}

impl SecretRef {
    /// The secret's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Secret(name) | Self::Seed(name) => name,
        }
    }

    /// Its file on the device.
    pub fn path(&self) -> String {
        format!("{FOLDER}/{}", self.name())
    }

    /// Reads `{secret: name}` or `{seed: name}` from a tree; `None` for anything else.
    pub fn of(value: &Value) -> Option<Self> {
        let found: Self = Self::deserialize(value).ok()?;
        is_name(found.name()).then_some(found)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "{{secret: {name}}}"),
            Self::Seed(name) => write!(f, "{{seed: {name}}}"),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
        && !text.contains("..")
}

/// Whether a value is a reference; else what is wrong and what to type. A literal is never repeated.
pub(crate) fn check(value: &Value) -> Result<(), (String, String)> {
    const HINT: &str = "`{secret: NAME}`, or `{seed: NAME}` for a value that the flasher brings";
    if SecretRef::of(value).is_some() {
        return Ok(());
    }
    let problem = match value {
        Value::Object(_) => {
            "is no reference to a secret: it takes one key, `secret` or `seed`, and a name of lower-case letters, digits, `-`, `_` and `.`"
        }
        _ => "is written out; a secret must not be in an image",
    };
    Err((problem.into(), HINT.into()))
}

/// How a secret is put in place of its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quoting {
    /// As it is.
    Plain,
    /// As a JSON text with its quotes, which is YAML as well: for a reference that stands where a value does.
    Json,
}

/// A piece of a text.
enum Piece<'a> {
    Text(&'a str),
    Reference(SecretRef),
}

/// The pieces of a text: what stands between braces in just the right way is a reference, all else is text.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(open) = text[at..].find('{').map(|found| at + found) {
        at = open + 1;
        let Some(close) = text[at..].find('}').map(|found| at + found) else { break };
        if let Some(reference) = reference(&text[at..close]) {
            pieces.push(Piece::Text(&text[from..open]));
            pieces.push(Piece::Reference(reference));
            from = close + 1;
            at = from;
        }
    }
    pieces.push(Piece::Text(&text[from..]));
    pieces
}

/// `secret: name`, as it stands between the braces.
fn reference(inside: &str) -> Option<SecretRef> {
    let (kind, name) = inside.split_once(": ")?;
    let name = name.trim();
    let reference = match kind.trim() {
        "secret" => SecretRef::Secret(name.into()),
        "seed" => SecretRef::Seed(name.into()),
        _ => return None,
    };
    is_name(name).then_some(reference)
}

/// The references in a text, each once, sorted.
pub fn references(text: &str) -> Vec<SecretRef> {
    let mut found: Vec<SecretRef> = pieces(text)
        .into_iter()
        .filter_map(|piece| if let Piece::Reference(found) = piece { Some(found) } else { None })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// How often a text refers to a secret.
pub fn count(text: &str) -> usize {
    pieces(text).iter().filter(|piece| matches!(piece, Piece::Reference(_))).count()
}

/// A text with its secrets put in.
///
/// # Errors
/// The names for which `value_of` has nothing. The text is then worth nothing, so none is given.
pub fn render(
    text: &str,
    quoting: Quoting,
    value_of: impl Fn(&SecretRef) -> Option<String>,
) -> Result<String, Vec<String>> {
    let (mut rendered, mut missing) = (String::with_capacity(text.len()), Vec::new());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => rendered.push_str(text),
            Piece::Reference(reference) => match (value_of(&reference), quoting) {
                (Some(value), Quoting::Plain) => rendered.push_str(&value),
                (Some(value), Quoting::Json) => rendered.push_str(&Value::String(value).to_string()),
                (None, _) => missing.push(reference.name().to_string()),
            },
        }
    }
    missing.sort();
    missing.dedup();
    if missing.is_empty() { Ok(rendered) } else { Err(missing) }
}

/// All references in a tree of values, texts included, each once, sorted.
pub fn references_in(value: &Value) -> Vec<SecretRef> {
    fn walk(value: &Value, found: &mut Vec<SecretRef>) {
        match value {
            Value::Object(map) => match SecretRef::of(value) {
                Some(reference) => found.push(reference),
                None => map.values().for_each(|value| walk(value, found)),
            },
            Value::Array(entries) => entries.iter().for_each(|value| walk(value, found)),
            Value::String(text) => found.extend(references(text)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, &mut found);
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn references_are_told_from_braces_that_mean_something_else() {
        let text = "a={secret: db} {\"secret\": 1} {secret:x} {seed: till.key} ${secret: db}{ {secret: UP} {";
        assert_eq!(references(text), [SecretRef::Secret("db".into()), SecretRef::Seed("till.key".into())]);
        assert_eq!(count(text), 3);
        let values = |reference: &SecretRef| (reference.name() == "db").then(|| "p\"w".to_string());
        assert_eq!(render("x {secret: db}\n", Quoting::Plain, values).unwrap(), "x p\"w\n");
        assert_eq!(render("x: {secret: db}\n", Quoting::Json, values).unwrap(), "x: \"p\\\"w\"\n");
        assert_eq!(render("{secret: b} {seed: a} {secret: b}", Quoting::Plain, values).unwrap_err(), ["a", "b"]);
    }

    #[test]
    fn a_literal_is_refused_and_never_repeated() {
        for literal in
            [json!("hunter2"), json!({"secret": "hunter2", "seed": "x"}), json!({"secret": "../x"}), json!(7)]
        {
            let (problem, hint) = check(&literal).unwrap_err();
            assert!(!format!("{problem}{hint}").contains("hunter2"));
            assert!(hint.starts_with("`{secret: NAME}`"));
        }
        assert_eq!(SecretRef::of(&json!({"seed": "wifi"})), Some(SecretRef::Seed("wifi".into())));
        assert_eq!(SecretRef::Secret("wifi".into()).path(), "/var/lib/bakelite/secrets/wifi");
    }

    #[test]
    fn a_tree_tells_all_its_references() {
        let tree = json!({"a": {"secret": "one"}, "b": [{"c": "x {seed: two} {secret: one}"}], "d": {"secret": 3}});
        let names: Vec<String> = references_in(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["{secret: one}", "{seed: two}"]);
    }

    proptest! {
        #[test]
        fn any_text_without_a_reference_stays_as_it_is(text in "(\\{|\\}|secret|seed|: |[a-z]|é){0,40}") {
            let rendered = render(&text, Quoting::Plain, |_| Some(String::new()));
            if references(&text).is_empty() {
                prop_assert_eq!(rendered, Ok(text));
            } else {
                prop_assert!(rendered.is_ok_and(|rendered| references(&rendered).is_empty() || rendered.len() < text.len()));
            }
        }
    }
}
