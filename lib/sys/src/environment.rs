//! A process's environment files: lines `NAME=value`, with the secrets that a value refers to.
//!
//! A secret's value goes into the environment of the one process that it is for, and nowhere else; a variable whose secret
//! isn't there is left out, and firstboot tells of it.

use crate::read_text;
use bakelite_spec::secret::{Quoting, render};
use std::collections::BTreeMap;
use std::path::Path;

/// The variables of some files; of two with one name the later one counts.
pub fn read(files: &[impl AsRef<Path>]) -> BTreeMap<String, String> {
    let texts = files.iter().filter_map(|path| read_text(path).ok());
    let mut variables = BTreeMap::new();
    for text in texts {
        variables.extend(parse(&text, |path| read_text(path).ok()));
    }
    variables
}

fn parse(text: &str, read: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .filter_map(|(name, value)| {
            let value_of = |path: &str| read(path).filter(|value| !value.is_empty());
            let value = render(value, Quoting::Plain, |reference| value_of(&reference.path())).ok()?;
            Some((name.to_string(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_put_in_and_a_missing_one_takes_its_variable_along() {
        let read = |path: &str| (path == "/var/lib/bakelite/secrets/proxy").then(|| "http://a:b@c".to_string());
        let text = "# x\nGOGC=50\nHTTP_PROXY={secret: proxy}\nHTTPS_PROXY={secret: none}\nEMPTY=\n";
        let variables: Vec<_> = parse(text, read).into_iter().collect();
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        assert_eq!(variables, [pair("EMPTY", ""), pair("GOGC", "50"), pair("HTTP_PROXY", "http://a:b@c")]);
    }
}
