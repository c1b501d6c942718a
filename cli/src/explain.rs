//! `bakelite explain`: one key in a person's words.

use crate::progress::Screen;
use bakelite_image::{BuildError, config};
use bakelite_spec::check::value_at;
use bakelite_spec::finding::{Finding, nearest};
use bakelite_spec::keys::{APPLIANCE, Key, Kind, children, find};
use std::path::Path;

pub fn explain(name: &str, path: Option<&Path>, screen: &Screen) -> Result<(), BuildError> {
    let Some(key) = find(APPLIANCE, name) else {
        let names = APPLIANCE.iter().map(|key| key.path);
        let hint = nearest(name, names).map_or_else(String::new, |near| format!("`{near}`"));
        return Err(BuildError::Config { findings: vec![Finding::error(name, "is not a known key", hint)] });
    };
    screen.line(&format!("{}: {}", key.path, key.meaning));
    screen.line(&format!("  type: {}", type_of(key.kind)));
    if !key.default.is_empty() {
        screen.line(&format!("  default: {}", key.default));
    }
    if let Some(path) = path {
        let config = config::load(path).map_err(|findings| BuildError::Config { findings })?;
        match (value_at(&config.effective.values, name), config.effective.set_by.get(name)) {
            (Some(value), Some(layer)) => screen.line(&format!("  here: {value}, set by the {}", layer.name())),
            (Some(value), None) => screen.line(&format!("  here: {value}")),
            (None, _) => screen.line("  here: not set"),
        }
    }
    let section = match key.kind {
        Kind::Records => format!("{name}[]"),
        Kind::Named => format!("{name}{{}}"),
        _ => name.to_string(),
    };
    for (child, entry) in children(APPLIANCE, &section) {
        screen.line(&format!("  {child}: {}", first_sentence(entry)));
    }
    Ok(())
}

fn first_sentence(key: &Key) -> &'static str {
    key.meaning.split_inclusive(". ").next().unwrap_or(key.meaning).trim_end()
}

fn type_of(kind: Kind) -> String {
    match kind {
        Kind::Section => "section".into(),
        Kind::Text(_) => "text".into(),
        Kind::Flag => "true or false".into(),
        Kind::Size(low, high) => format!("size, from {} to {}", low.human(), high.human()),
        Kind::Duration(low, high) => format!("duration, from {} s to {} s", low.0, high.0),
        Kind::Choice(words) => words.join(" | "),
        Kind::List(of) => format!("list of: {}", type_of(*of)),
        Kind::Number(low, high) => format!("number, from {low} to {high}"),
        Kind::Secret => "{secret: NAME} | {seed: NAME}".into(),
        Kind::SecretOr(_) => "text | {secret: NAME} | {seed: NAME}".into(),
        Kind::Map(of) => format!("mapping of names to: {}", type_of(*of)),
        Kind::Records => "list of sections".into(),
        Kind::Named => "mapping of names to sections".into(),
        Kind::Free => "mapping".into(),
    }
}
