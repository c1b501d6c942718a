//! Looking into a table of keys: one key, those of a section, the layer of defaults.

use super::{Key, Kind};
use serde_json::Value;

/// Finds the entry of a path with its indices written as `[]`.
pub fn find<'a>(table: &'a [Key], path: &str) -> Option<&'a Key> {
    table.iter().find(|key| key.path == path)
}

/// The last names of the keys directly below a section; the empty path is the top.
pub fn children<'a>(table: &'a [Key], section: &'a str) -> impl Iterator<Item = (&'a str, &'a Key)> {
    table.iter().filter_map(move |key| {
        let name = match section {
            "" => key.path,
            _ => key.path.strip_prefix(section)?.strip_prefix('.')?,
        };
        (!name.contains(['.', '[', '{']) && !name.is_empty()).then_some((name, key))
    })
}

/// The layer of defaults: a mapping with the default of each key that has one (entries of lists apart).
pub fn defaults(table: &[Key]) -> Value {
    fn section(table: &[Key], path: &str) -> Value {
        let mut map = serde_json::Map::new();
        for (name, key) in children(table, path) {
            if matches!(key.kind, Kind::Section) {
                map.insert(name.into(), section(table, key.path));
            } else if let Ok(value) = serde_json::from_str(key.default) {
                map.insert(name.into(), value);
            }
        }
        Value::Object(map)
    }
    section(table, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{APPLIANCE, BOARD};

    #[test]
    fn each_key_has_its_section_a_meaning_and_a_default_that_is_json() {
        for table in [APPLIANCE, BOARD] {
            for key in table {
                assert!(key.meaning.ends_with('.'), "{}: the meaning is a sentence", key.path);
                assert!(key.default.is_empty() || serde_json::from_str::<Value>(key.default).is_ok(), "{}", key.path);
                if let Some((parent, _)) = key.path.rsplit_once('.') {
                    let parent = parent.trim_end_matches("[]").trim_end_matches("{}");
                    assert!(find(table, parent).is_some(), "{} stands in no section", key.path);
                }
                assert_eq!(table.iter().filter(|other| other.path == key.path).count(), 1, "{} twice", key.path);
            }
        }
    }
}
