//! k3s's flags as data: which there are, of which type, and which environment variable is their default.
//! The table is `flags.tsv`; a test compares it with the list that the reference run took from k3s itself.

use crate::config::Role;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Integer,
    Duration,
    Text,
    List,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub role: &'static str,
    pub kind: Kind,
    pub name: &'static str,
    aliases: &'static str,
    environment: &'static str,
    pub default: Option<&'static str>,
}

impl Flag {
    /// Short and other names.
    pub fn aliases(&self) -> impl Iterator<Item = &'static str> {
        self.aliases.split(',').filter(|name| *name != "-")
    }

    /// Environment variables that set it where neither file nor command line does.
    pub fn environment(&self) -> impl Iterator<Item = &'static str> {
        self.environment.split(',').filter(|name| *name != "-")
    }
}

/// All flags of both roles, in k3s's order.
pub fn all() -> impl Iterator<Item = Flag> {
    include_str!("flags.tsv").lines().filter_map(|line| {
        let mut columns = line.split('\t');
        let role = columns.next().filter(|role| matches!(*role, "server" | "agent"))?;
        let kind = match columns.next()? {
            "Bool" => Kind::Boolean,
            "Int" => Kind::Integer,
            "Duration" => Kind::Duration,
            "StringSlice" => Kind::List,
            _ => Kind::Text,
        };
        let name = columns.next()?;
        let aliases = columns.next()?;
        let environment = columns.next()?;
        let default = columns.next().filter(|text| *text != "-");
        Some(Flag { role, kind, name, aliases, environment, default })
    })
}

/// The flag of this role with this name or alias.
pub fn find(role: Role, name: &str) -> Option<Flag> {
    all().find(|flag| flag.role == role.name() && (flag.name == name || flag.aliases().any(|alias| alias == name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn knows_aliases_and_roles() {
        assert_eq!(find(Role::Server, "t").map(|flag| flag.name), Some("token"));
        assert!(find(Role::Agent, "cluster-init").is_none());
        assert_eq!(find(Role::Server, "https-listen-port").and_then(|flag| flag.default), Some("6443"));
    }

    #[test]
    fn equals_the_list_that_k3s_gave() {
        let Some(fixtures) = std::env::var_os("BAKELITE_FIXTURES") else {
            eprintln!("SKIPPED: BAKELITE_FIXTURES isn't set, the flags table is compared with nothing");
            return;
        };
        let text = std::fs::read_to_string(Path::new(&fixtures).join("k3s-flags.json")).unwrap();
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        for role in ["server", "agent"] {
            let theirs = list[role].as_array().unwrap();
            let ours: Vec<Flag> = all().filter(|flag| flag.role == role).collect();
            assert_eq!(ours.len(), theirs.len(), "number of flags of {role}");
            for (our, their) in ours.iter().zip(theirs) {
                let names = |key: &str| -> Vec<&str> {
                    their[key].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect()
                };
                let kind = match our.kind {
                    Kind::Boolean => "Bool",
                    Kind::Integer => "Int",
                    Kind::Duration => "Duration",
                    Kind::Text => "String",
                    Kind::List => "StringSlice",
                };
                assert_eq!(our.name, their["name"].as_str().unwrap());
                assert_eq!(kind, their["type"].as_str().unwrap(), "{}", our.name);
                assert_eq!(our.default, their["default"].as_str(), "{}", our.name);
                assert_eq!(our.aliases().collect::<Vec<_>>(), names("aliases"), "{}", our.name);
                assert_eq!(our.environment().collect::<Vec<_>>(), names("env"), "{}", our.name);
            }
        }
    }
}
