//! Relations between packages: `a (>= 1) | b:any, c`, and what a package provides.
//!
//! Pure parsers of Debian Policy chapter 7. Build-only restrictions do not occur in binary packages; where text is
//! malformed the whole field is refused, for a dependency misread is an image that does not boot.

use std::cmp::Ordering;
use std::fmt;

use super::version;

/// How a version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Before,
    /// `<=`
    UpTo,
    /// `=`
    Exactly,
    /// `>=`
    From,
    /// `>>`
    After,
}

/// One alternative of a dependency, one conflict, or one thing provided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The package or virtual package.
    pub name: String,
    /// After a colon: "any", or an architecture.
    pub architecture: Option<String>,
    /// The version asked for, or provided.
    pub version: Option<(Operator, String)>,
}

/// The field is not written as Debian Policy says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the relation {0:?}")]
pub struct BadRelation(pub String);

impl Relation {
    /// Whether a package of this version satisfies the relation.
    pub fn accepts(&self, candidate: &str) -> bool {
        let Some((operator, wanted)) = &self.version else { return true };
        let order = version::compare(candidate, wanted);
        match operator {
            Operator::Before => order == Ordering::Less,
            Operator::UpTo => order != Ordering::Greater,
            Operator::Exactly => order == Ordering::Equal,
            Operator::From => order != Ordering::Less,
            Operator::After => order == Ordering::Greater,
        }
    }

    /// Whether something provided satisfies the relation: an unversioned provision meets only an unversioned need.
    pub fn accepts_provided(&self, provided: &Relation) -> bool {
        match (&self.version, &provided.version) {
            (None, _) => true,
            (Some(_), Some((_, provided))) => self.accepts(provided),
            (Some(_), None) => false,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)?;
        if let Some(architecture) = &self.architecture {
            write!(out, ":{architecture}")?;
        }
        let Some((operator, version)) = &self.version else { return Ok(()) };
        let operator = match operator {
            Operator::Before => "<<",
            Operator::UpTo => "<=",
            Operator::Exactly => "=",
            Operator::From => ">=",
            Operator::After => ">>",
        };
        write!(out, " ({operator} {version})")
    }
}

/// Prints one group of alternatives as Debian writes it.
pub fn print_group(group: &[Relation]) -> String {
    group.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | ")
}

/// Parses a dependency field: groups that must all hold, of alternatives of which one must.
pub fn parse_groups(field: &str) -> Result<Vec<Vec<Relation>>, BadRelation> {
    field
        .split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty())
        .map(|group| group.split('|').map(|text| parse_one(text.trim())).collect())
        .collect()
}

/// Parses a field without alternatives (Provides, Conflicts, Breaks).
pub fn parse_list(field: &str) -> Result<Vec<Relation>, BadRelation> {
    field.split(',').map(str::trim).filter(|text| !text.is_empty()).map(parse_one).collect()
}

/// Whether this is a package name as Debian Policy 5.6.7 allows (so it is also safe in messages and paths).
pub fn is_package_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

/// Whether this can be a version (Debian Policy 5.6.12).
pub fn is_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-~:".contains(&byte))
}

fn parse_one(text: &str) -> Result<Relation, BadRelation> {
    let refused = || BadRelation(text.chars().take(120).collect());
    let (subject, version) = match text.split_once('(') {
        None => (text, None),
        Some((subject, rest)) => {
            let (inside, after) = rest.split_once(')').ok_or_else(refused)?;
            if !after.trim().is_empty() {
                return Err(refused());
            }
            (subject.trim(), Some(parse_version(inside.trim()).ok_or_else(refused)?))
        }
    };
    let (name, architecture) = match subject.split_once(':') {
        Some((name, architecture)) => (name, Some(architecture)),
        None => (subject, None),
    };
    if !is_package_name(name) || !architecture.is_none_or(is_package_name) {
        return Err(refused());
    }
    Ok(Relation { name: name.to_owned(), architecture: architecture.map(str::to_owned), version })
}

fn parse_version(inside: &str) -> Option<(Operator, String)> {
    let digits = inside.find(|c: char| !"<>=".contains(c))?;
    let (operator, version) = inside.split_at(digits);
    let operator = match operator {
        "<<" => Operator::Before,
        "<=" | "<" => Operator::UpTo,
        "=" => Operator::Exactly,
        ">=" | ">" => Operator::From,
        ">>" => Operator::After,
        _ => return None,
    };
    let version = version.trim();
    is_version(version).then(|| (operator, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_and_prints_what_debian_writes() {
        let field = "libc6 (>= 2.38), debconf (>= 0.5) | debconf-2.0, perl:any, linux-image (= 6.12.117-1)";
        let groups = parse_groups(field).unwrap();
        assert_eq!(groups.iter().map(|group| print_group(group)).collect::<Vec<_>>().join(", "), field);
        assert_eq!(groups[2][0].architecture.as_deref(), Some("any"));
        assert!(parse_groups(" , ").unwrap().is_empty());
        assert_eq!(parse_groups("a(>=1)").unwrap()[0][0].version, Some((Operator::From, "1".into())));
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        for bad in
            ["a (1.0)", "a (>= 1", "a (>= )", "a (~ 1)", "../a", "a b", "a |", "a:", "a (>= 1) [amd64]", "a (= 1;rm)"]
        {
            assert!(parse_groups(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_and_provisions() {
        let need = |text: &str| parse_list(text).unwrap().remove(0);
        assert!(need("a (>> 1.0)").accepts("1.0+b1") && !need("a (<< 1.0)").accepts("1.0"));
        assert!(need("a (<= 1.0)").accepts("1.0~rc1") && need("a").accepts("anything"));
        assert!(need("v").accepts_provided(&need("v (= 3)")) && need("v (>= 2)").accepts_provided(&need("v (= 3)")));
        assert!(!need("v (>= 4)").accepts_provided(&need("v (= 3)")) && !need("v (>= 1)").accepts_provided(&need("v")));
    }

    proptest! {
        #[test]
        fn any_text_ends_without_panic(text in ".{0,60}") {
            let _ = parse_groups(&text);
        }
    }
}
