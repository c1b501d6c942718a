//! The licences of a Debian package by its machine-readable copyright file (DEP-5), in SPDX's names.
//!
//! Debian's short names aren't SPDX's: those that mean one of its licences are translated, each other one becomes a
//! reference of this list with the text that the file has for it. A file in another form says nothing here.

use crate::source::deb822::{Stanza, Stanzas};
use std::collections::{BTreeMap, BTreeSet};

/// The most of a copyright file that is looked at, in bytes; the longest of Debian's have 3 MB.
const LIMIT: usize = 8 << 20;

/// A package's licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licence {
    /// As SPDX writes it.
    pub expression: String,
    /// What SPDX has no name for: reference, Debian's name, text.
    pub texts: Vec<(String, String, String)>,
}

/// SPDX's names of licences that Debian's files name alike, but for the case.
const ALIKE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-4-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "curl",
    "FSFAP",
    "FSFUL",
    "FSFULLR",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-1.1",
    "MPL-2.0",
    "NTP",
    "OFL-1.1",
    "OLDAP-2.8",
    "OpenSSL",
    "Unlicense",
    "WTFPL",
    "X11",
    "Zlib",
];
/// Debian's names for licences that SPDX calls otherwise.
const OTHERWISE: &[(&str, &str)] =
    &[("Expat", "MIT"), ("CC0", "CC0-1.0"), ("Artistic", "Artistic-1.0-Perl"), ("OpenLDAP-2.8", "OLDAP-2.8")];
/// Families of which each version may be followed by a plus.
const FAMILIES: &[&str] = &["GPL", "LGPL", "AGPL", "GFDL"];

/// Reads a package's copyright file; `None` where it says nothing that a machine could read.
pub fn read(package: &str, text: &[u8]) -> Option<Licence> {
    let mut stanzas = Stanzas::new(&text[..text.len().min(LIMIT)]);
    let head = stanzas.next_stanza().ok()??;
    head.get("Format").filter(|format| format.contains("copyright-format"))?;
    let (mut names, mut texts) = (BTreeSet::new(), BTreeMap::new());
    let mut take = |stanza: &Stanza| {
        let Some((name, text)) = stanza.get("License").map(|value| value.split_once('\n').unwrap_or((value, "")))
        else {
            return;
        };
        if stanza.get("Files").is_some() {
            names.insert(name.trim().to_string());
        }
        if !text.trim().is_empty() {
            texts.insert(name.trim().to_string(), text.trim().to_string());
        }
    };
    // A file that breaks off says less, but nothing wrong.
    while let Ok(Some(stanza)) = stanzas.next_stanza() {
        take(&stanza);
    }
    names.remove("");
    let mut writer = Writer { package, texts: &texts, unknown: BTreeMap::new() };
    let parts: BTreeSet<String> = names.iter().map(|name| writer.expression(name)).collect();
    if parts.is_empty() {
        return None;
    }
    let alone = parts.len() == 1;
    let braced = |part: &String| if !alone && part.contains(' ') { format!("({part})") } else { part.clone() };
    let expression = parts.iter().map(braced).collect::<Vec<_>>().join(" AND ");
    Some(Licence { expression, texts: writer.unknown.into_iter().map(|(id, (name, text))| (id, name, text)).collect() })
}

/// A text as a part of SPDX's identifiers: letters, digits, dots and dashes.
pub fn identifier(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '-' }).collect()
}

struct Writer<'a> {
    package: &'a str,
    texts: &'a BTreeMap<String, String>,
    unknown: BTreeMap<String, (String, String)>,
}

impl Writer<'_> {
    /// Debian's `A or B, and C`: a comma binds weaker than `or`, `or` weaker than `and`.
    fn expression(&mut self, name: &str) -> String {
        for (between, word) in [(", and ", " AND "), (", or ", " OR "), (" or ", " OR "), (" and ", " AND ")] {
            if name.contains(between) {
                let parts = name.split(between).map(|part| {
                    let part = self.expression(part.trim().trim_end_matches(','));
                    if part.contains(' ') { format!("({part})") } else { part }
                });
                return parts.collect::<Vec<_>>().join(word);
            }
        }
        known(name).unwrap_or_else(|| self.reference(name))
    }

    fn reference(&mut self, name: &str) -> String {
        let id = format!("LicenseRef-{}-{}", identifier(self.package), identifier(name));
        let text = self.texts.get(name).map_or("The package's copyright file has no text for it.", String::as_str);
        self.unknown.insert(id.clone(), (name.into(), text.into()));
        id
    }
}

/// SPDX's name of one licence.
fn known(name: &str) -> Option<String> {
    if let Some(same) = ALIKE.iter().find(|same| same.eq_ignore_ascii_case(name)) {
        return Some((*same).into());
    }
    if let Some((_, other)) = OTHERWISE.iter().find(|(debian, _)| debian.eq_ignore_ascii_case(name)) {
        return Some((*other).into());
    }
    let (family, rest) = name.split_once('-')?;
    let (version, later) = match rest.strip_suffix('+') {
        Some(version) => (version, "or-later"),
        None => (rest, "only"),
    };
    let is_version =
        !version.is_empty() && version.len() <= 4 && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_known = FAMILIES.contains(&family) && is_version && version.starts_with(|c: char| c.is_ascii_digit());
    let version = if version.contains('.') { version.to_string() } else { format!("{version}.0") };
    is_known.then(|| format!("{family}-{version}-{later}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "Format: packaging-manuals/copyright-format/1.0/\n\n";

    fn expression(licences: &[&str]) -> String {
        let files: String =
            licences.iter().map(|name| format!("Files: *\nCopyright: x\nLicense: {name}\n\n")).collect();
        read("x", format!("{HEAD}{files}").as_bytes()).unwrap().expression
    }

    #[test]
    fn debians_names_become_spdx_names() {
        assert_eq!(expression(&["GPL-2+"]), "GPL-2.0-or-later");
        assert_eq!(expression(&["LGPL-2.1"]), "LGPL-2.1-only");
        assert_eq!(expression(&["Expat"]), "MIT");
        assert_eq!(expression(&["bsd-3-clause"]), "BSD-3-Clause");
        assert_eq!(expression(&["GPL-2+ or Artistic", "Expat"]), "(GPL-2.0-or-later OR Artistic-1.0-Perl) AND MIT");
        assert_eq!(expression(&["GPL-2 or GPL-3, and Expat"]), "(GPL-2.0-only OR GPL-3.0-only) AND MIT");
        assert_eq!(expression(&["GPL-2+ with OpenSSL exception"]), "LicenseRef-x-GPL-2--with-OpenSSL-exception");
    }

    #[test]
    fn what_spdx_has_no_name_for_comes_with_its_text() {
        let text = format!("{HEAD}Files: a\nLicense: own\n\nLicense: own\n Do what you like.\n .\n Really.\n");
        let licence = read("shop", text.as_bytes()).unwrap();
        assert_eq!(licence.expression, "LicenseRef-shop-own");
        assert_eq!(licence.texts.len(), 1);
        assert!(licence.texts[0].2.starts_with("Do what you like."), "{licence:?}");
    }

    #[test]
    fn free_text_says_nothing() {
        assert_eq!(read("x", b"This is free software.\n"), None);
        assert_eq!(read("x", b""), None);
        assert_eq!(read("x", HEAD.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read("x", &bytes);
            let _ = read("x", &[HEAD.as_bytes(), b"Files: *\nLicense: ", &bytes].concat());
        }
    }
}
