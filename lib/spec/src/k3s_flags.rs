//! k3s's flags as data: what `k3s.config` may hold for each role, and of which type.
//!
//! `k3s server` warns of an unknown key and starts without it; `k3s agent` dies of one (k3s.md 5.1). So each key is checked
//! where the image is built. The table is that of k3s 1.36 (pkg/cli/cmds), by the name of its file.

use crate::appliance::K3sRole;
use serde_json::Value;

/// The table: name, type, role.
const TABLE: &str = include_str!("../data/k3s-flags-v1.36.tsv");

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number,
    /// A Go duration, such as `10m`.
    Duration,
    /// One text.
    Text,
    /// A list of texts.
    List,
}

/// One flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its long name, which is the key in config.yaml.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    role: Option<K3sRole>,
}

impl Flag {
    /// Whether a role has it.
    pub fn is_of(&self, role: K3sRole) -> bool {
        self.role.is_none_or(|only| only == role)
    }

    /// What is wrong with a value, if anything: what it should be.
    pub fn misfit(&self, value: &Value) -> Option<&'static str> {
        let is_text = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
        let is_duration =
            |text: &str| text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(['s', 'm', 'h']);
        let (fits, should) = match self.takes {
            Takes::Flag => (value.is_boolean(), "`true` or `false`"),
            Takes::Number => (value.is_u64(), "a whole number"),
            Takes::Duration => (value.as_str().is_some_and(is_duration), "a duration such as `10m`"),
            Takes::Text => (is_text(value), "one text"),
            Takes::List => {
                let all = value.as_array().is_some_and(|entries| entries.iter().all(is_text));
                (all || is_text(value), "a list of texts")
            }
        };
        (!fits).then_some(should)
    }
}

/// All flags, by name.
pub fn all() -> impl Iterator<Item = Flag> {
    TABLE.lines().filter_map(|line| {
        let mut columns = line.split('\t');
        let name = columns.next()?;
        let takes = match columns.next()? {
            "flag" => Takes::Flag,
            "number" => Takes::Number,
            "duration" => Takes::Duration,
            "list" => Takes::List,
            _ => Takes::Text,
        };
        let role = match columns.next()? {
            "server" => Some(K3sRole::Server),
            "agent" => Some(K3sRole::Agent),
            _ => None,
        };
        Some(Flag { name, takes, role })
    })
}

/// The flag with a name.
pub fn find(name: &str) -> Option<Flag> {
    all().find(|flag| flag.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn values_are_held_against_the_type() {
        let misfit = |name: &str, value: Value| find(name).unwrap().misfit(&value);
        assert_eq!(misfit("disable", json!(["traefik"])), None);
        assert_eq!(misfit("disable", json!("traefik,servicelb")), None);
        assert_eq!(misfit("disable", json!([{}])), Some("a list of texts"));
        assert_eq!(misfit("secrets-encryption", json!("yes")), Some("`true` or `false`"));
        assert_eq!(misfit("https-listen-port", json!("6443")), Some("a whole number"));
        assert_eq!(misfit("etcd-s3-timeout", json!("5m")), None);
        assert_eq!(misfit("etcd-s3-timeout", json!("soon")), Some("a duration such as `10m`"));
    }

    #[test]
    fn roles_have_flags_of_their_own() {
        assert!(find("tls-san").unwrap().is_of(K3sRole::Server) && !find("tls-san").unwrap().is_of(K3sRole::Agent));
        assert!(
            find("node-label").unwrap().is_of(K3sRole::Server) && find("node-label").unwrap().is_of(K3sRole::Agent)
        );
        assert!(find("data-dirr").is_none());
    }

    /// Against the list that k3s's own code gave.
    #[test]
    fn the_table_is_k3s_own() {
        let Ok(folder) = std::env::var("BAKELITE_FIXTURES") else {
            println!("SKIPPED: BAKELITE_FIXTURES is not set, the table of k3s's flags was not compared");
            return;
        };
        let text = std::fs::read_to_string(format!("{folder}/k3s-flags.json")).unwrap();
        let theirs: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
        for (role, name) in [(K3sRole::Server, "server"), (K3sRole::Agent, "agent")] {
            let theirs = theirs[name].as_array().unwrap();
            let names: Vec<&str> = theirs.iter().map(|flag| flag["name"].as_str().unwrap()).collect();
            for flag in all().filter(|flag| flag.is_of(role)) {
                assert!(names.contains(&flag.name), "{} is no flag of {name}", flag.name);
            }
            for flag in theirs {
                let ours = find(flag["name"].as_str().unwrap()).filter(|ours| ours.is_of(role));
                let takes = match flag["type"].as_str().unwrap() {
                    "Bool" => Takes::Flag,
                    "Int" => Takes::Number,
                    "Duration" => Takes::Duration,
                    "StringSlice" => Takes::List,
                    _ => Takes::Text,
                };
                assert_eq!(ours.map(|ours| ours.takes), Some(takes), "{}", flag["name"]);
            }
        }
    }
}
