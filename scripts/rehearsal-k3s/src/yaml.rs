//! One YAML mapping as k3s's configuration parser sees it: pairs in order, duplicates kept, every value turned into text.
//! Follows k3s.md 5.1 and 11.5, and keeps YAML 1.1's octal numbers, because an unquoted `0600` is a trap worth rehearsing.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_yaml::Value;

use crate::error::Error;

struct Pairs(Vec<(Value, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mapping")
            }

            fn visit_unit<E>(self) -> Result<Pairs, E> {
                Ok(Pairs(Vec::new()))
            }

            fn visit_none<E>(self) -> Result<Pairs, E> {
                Ok(Pairs(Vec::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_any(InOrder)
    }
}

/// The pairs of one file: key, and its value or values as text.
pub fn pairs(bytes: &[u8]) -> Result<Vec<(String, Vec<String>)>, Error> {
    let source = String::from_utf8_lossy(bytes);
    if source.trim().is_empty() {
        return Ok(Vec::new());
    }
    let Pairs(pairs) = serde_yaml::from_str(&source).map_err(|error| Error::ParseYaml(go_message(&error)))?;
    Ok(pairs
        .into_iter()
        .map(|(key, value)| {
            let key = text(&key);
            let values = match value {
                Value::Sequence(items) => items.iter().map(text).collect(),
                Value::String(digits) if is_unquoted_octal(&source, &key, &digits) => {
                    vec![u64::from_str_radix(&digits, 8).map_or(digits, |number| number.to_string())]
                }
                other => vec![text(&other)],
            };
            (key, values)
        })
        .collect())
}

/// The parser knows YAML 1.2, in which `0600` is a text; k3s's knows 1.1, in which it is 384.
fn is_unquoted_octal(source: &str, key: &str, digits: &str) -> bool {
    digits.len() > 1
        && digits.starts_with('0')
        && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit))
        && source.lines().any(|line| {
            let rest = line.strip_prefix(key).and_then(|rest| rest.trim_start().strip_prefix(':'));
            rest.is_some_and(|rest| rest.split('#').next().is_some_and(|value| value.trim() == digits))
        })
}

/// A value as Go prints it: a nested map becomes `map[a:b]`, which is what stops the API server in the end.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Sequence(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Mapping(map) => {
            let inner: Vec<String> = map.iter().map(|(key, value)| format!("{}:{}", text(key), text(value))).collect();
            format!("map[{}]", inner.join(" "))
        }
        Value::Tagged(tagged) => text(&tagged.value),
    }
}

/// `problem at line 5 column 1, while parsing …` in Go's order: `line 5: problem`.
fn go_message(error: &serde_yaml::Error) -> String {
    let full = error.to_string();
    let problem = full.split(" at line ").next().unwrap_or(&full);
    match error.location() {
        Some(place) => format!("line {}: {problem}", place.line()),
        None => problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_text_as_in_go() {
        let got = pairs(b"a: 0600\nb: \"0600\"\nc: {x: 1}\nd:\ne: [yes it is, 2]\nf: 1.5\n").unwrap();
        let got: Vec<(&str, Vec<&str>)> =
            got.iter().map(|(key, values)| (key.as_str(), values.iter().map(String::as_str).collect())).collect();
        assert_eq!(
            got,
            [
                ("a", vec!["384"]),
                ("b", vec!["0600"]),
                ("c", vec!["map[x:1]"]),
                ("d", vec![""]),
                ("e", vec!["yes it is", "2"]),
                ("f", vec!["1.5"])
            ]
        );
        assert!(pairs(b"# only a comment\n").unwrap().is_empty());
        assert!(pairs(b"- a list\n").is_err());
    }
}
