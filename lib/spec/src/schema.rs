//! JSON schemas from the table of keys, for editors: `# yaml-language-server: $schema=…`.

use crate::keys::{Form, Key, Kind, SHORT_FORMS, children};
use serde_json::{Map, Value, json};

/// The schema (draft 2020-12) of a table.
pub fn schema(table: &[Key], title: &str) -> Value {
    let mut schema = section(table, "");
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = title.into();
    schema
}

fn section(table: &[Key], path: &str) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, key) in children(table, path) {
        properties.insert(name.into(), property(table, key));
        if key.required {
            required.push(name);
        }
    }
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn property(table: &[Key], key: &Key) -> Value {
    let mut property = match key.kind {
        Kind::Section if SHORT_FORMS.iter().any(|(section, _)| *section == key.path) => {
            json!({ "anyOf": [{ "type": "string" }, section(table, key.path)] })
        }
        Kind::Section => section(table, key.path),
        Kind::Records => json!({ "type": "array", "items": section(table, &format!("{}[]", key.path)) }),
        Kind::Named => {
            json!({ "type": "object", "additionalProperties": section(table, &format!("{}{{}}", key.path)) })
        }
        kind => scalar(kind),
    };
    property["description"] = key.meaning.into();
    if let Ok(default) = serde_json::from_str::<Value>(key.default) {
        property["default"] = default;
    }
    property
}

fn scalar(kind: Kind) -> Value {
    match kind {
        Kind::Text(Form::Mac) => json!({ "type": "string", "pattern": "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$" }),
        Kind::Text(Form::K3sVersion) => {
            json!({ "type": "string", "pattern": r"^v[0-9]+\.[0-9]+\.[0-9]+.*\+k3s[0-9]+$" })
        }
        Kind::Text(Form::Argument) => json!({ "type": "string" }),
        Kind::Text(Form::DevicePath) => json!({ "type": "string", "pattern": "^/" }),
        Kind::Text(Form::Mode) => json!({ "type": "string", "pattern": "^0[0-7]{3}$" }),
        Kind::Text(Form::Sum) => json!({ "type": "string", "pattern": "^[0-9A-Fa-f]{64}$" }),
        Kind::Text(_) => json!({ "type": "string", "minLength": 1 }),
        Kind::Number(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Secret => {
            let reference = |kind: &str| json!({ "type": "object", "additionalProperties": false, "properties": { kind: { "type": "string" } }, "required": [kind] });
            json!({ "anyOf": [reference("secret"), reference("seed")] })
        }
        Kind::SecretOr(form) => {
            let mut either = scalar(Kind::Secret);
            either["anyOf"].as_array_mut().into_iter().for_each(|all| all.push(scalar(Kind::Text(form))));
            either
        }
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Size(..) | Kind::Duration(..) => json!({ "type": ["string", "integer"] }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::List(of) => json!({ "type": "array", "items": scalar(*of) }),
        Kind::Map(of) => json!({ "type": "object", "additionalProperties": scalar(*of) }),
        Kind::Section | Kind::Records | Kind::Named | Kind::Free => json!({ "type": "object" }),
    }
}
