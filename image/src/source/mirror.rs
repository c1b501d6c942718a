//! Which Debian mirror to use: as told, else the one the build host's own apt uses.
//!
//! No mirror is built in: the first of option, configuration, environment and apt's sources decides. Choosing wrongly
//! cannot harm (the archive's signature is checked afterwards); it can only fail, so guessing is allowed here.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::deb822::Stanzas;
use super::error::SourceError;

/// The variable that names a mirror.
pub const MIRROR_VARIABLE: &str = "BAKELITE_MIRROR";

/// The archives packages come from, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// Holds `dists/trixie` and `dists/trixie-updates`.
    pub debian: String,
    /// Holds `dists/trixie-security`.
    pub security: String,
    /// Endings of suites that aren't asked, `-security` or `-updates`: a person's word.
    pub without: Vec<String>,
}

/// What was said about mirrors, the most specific first.
#[derive(Debug, Clone, Copy)]
pub struct MirrorChoice<'a> {
    /// The option `--mirror`.
    pub option: Option<&'a str>,
    /// The key `mirror:`.
    pub config: Option<&'a str>,
    /// The value of [`MIRROR_VARIABLE`].
    pub environment: Option<&'a str>,
    /// apt's folder, `/etc/apt` but in tests.
    pub apt: &'a Path,
}

/// One archive entry of apt's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AptEntry {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: String,
}

/// Finds the mirrors. A mirror given by hand may be two words, the second being the security archive; with one, that
/// is the sibling `<mirror>-security`.
pub fn choose(choice: &MirrorChoice<'_>) -> Result<Mirrors, SourceError> {
    let given = [choice.option, choice.config, choice.environment];
    if let Some(mirror) = given.into_iter().flatten().map(str::trim).find(|text| !text.is_empty()) {
        return from_words(mirror);
    }
    let entries = apt_entries(choice.apt)?;
    let missing = || SourceError::FindMirror { looked: choice.apt.display().to_string() };
    let debian = best(&entries, main_score).ok_or_else(missing)?;
    let security = best(&entries, security_score).unwrap_or_else(|| format!("{debian}-security"));
    Ok(Mirrors { debian, security, without: Vec::new() })
}

fn from_words(mirror: &str) -> Result<Mirrors, SourceError> {
    let words = mirror.split_whitespace().map(normalise).collect::<Result<Vec<_>, _>>()?;
    let without = Vec::new();
    match words.as_slice() {
        [debian] => Ok(Mirrors { debian: debian.clone(), security: format!("{debian}-security"), without }),
        [debian, security] => Ok(Mirrors { debian: debian.clone(), security: security.clone(), without }),
        _ => Err(SourceError::ReadMirror { mirror: mirror.to_owned(), reason: "more than two addresses" }),
    }
}

fn normalise(mirror: &str) -> Result<String, SourceError> {
    let refused = |reason| Err(SourceError::ReadMirror { mirror: mirror.to_owned(), reason });
    let bare = mirror.trim_end_matches('/');
    match bare.split_once(':') {
        Some(("http" | "https", rest)) if rest.strip_prefix("//").is_some_and(|host| !host.is_empty()) => {}
        Some(("http" | "https", _)) => return refused("it has no host"),
        Some(("file", rest)) if rest.starts_with('/') => {}
        Some(_) => return refused("its scheme is not known"),
        None if bare.starts_with('/') || bare.starts_with('.') => {}
        None => return refused("it has no scheme"),
    }
    Ok(bare.to_owned())
}

/// The entry with the highest score above zero; of equals the first.
fn best(entries: &[AptEntry], score: fn(&AptEntry, &[AptEntry]) -> u32) -> Option<String> {
    let mut found: Option<(u32, &AptEntry)> = None;
    for entry in entries {
        let points = score(entry, entries);
        if points > found.map_or(0, |(most, _)| most) {
            found = Some((points, entry));
        }
    }
    found.and_then(|(_, entry)| normalise(&entry.uri).ok())
}

/// Third parties use `stable main` and even codenames; Debian's own archive is told by several small signs.
fn main_score(entry: &AptEntry, all: &[AptEntry]) -> u32 {
    let codename = entry.suites.iter().any(|suite| is_codename(suite));
    if !codename && !entry.suites.iter().any(|suite| is_alias(suite)) || !usable(entry) {
        return 0;
    }
    let updates = all.iter().any(|other| {
        other.uri == entry.uri
            && other
                .suites
                .iter()
                .any(|suite| suite.strip_suffix("-updates").is_some_and(|base| is_codename(base) || is_alias(base)))
    });
    u32::from(codename)
        + u32::from(updates)
        + u32::from(entry.uri.trim_end_matches('/').ends_with("/debian"))
        + 2 * signed_by_debian(entry)
}

fn security_score(entry: &AptEntry, _all: &[AptEntry]) -> u32 {
    let security = entry.suites.iter().any(|suite| {
        suite
            .strip_suffix("-security")
            .or_else(|| suite.strip_suffix("/updates"))
            .is_some_and(|base| is_codename(base) || is_alias(base))
    });
    if security && usable(entry) { 1 + signed_by_debian(entry) } else { 0 }
}

fn usable(entry: &AptEntry) -> bool {
    entry.components.iter().any(|component| component == "main") && normalise(&entry.uri).is_ok()
}

fn signed_by_debian(entry: &AptEntry) -> u32 {
    u32::from(entry.signed_by.contains("debian-archive"))
}

fn is_codename(suite: &str) -> bool {
    ["buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid"].contains(&suite)
}

fn is_alias(suite: &str) -> bool {
    ["oldoldstable", "oldstable", "stable", "testing", "unstable"].contains(&suite)
}

/// Reads `sources.list` and `sources.list.d` in apt's order. A file that cannot be parsed is passed over: apt's own
/// troubles are not ours, and the next file may serve.
fn apt_entries(apt: &Path) -> Result<Vec<AptEntry>, SourceError> {
    let mut entries = Vec::new();
    for path in apt_files(apt)? {
        let deb822 = path.extension().is_some_and(|extension| extension == "sources");
        let bytes = fs::read(&path).map_err(SourceError::reading(&path))?;
        if deb822 {
            entries.extend(parse_deb822(&bytes));
        } else {
            entries.extend(String::from_utf8_lossy(&bytes).lines().flat_map(parse_one_line));
        }
    }
    Ok(entries)
}

fn apt_files(apt: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let mut files: Vec<PathBuf> = Some(apt.join("sources.list")).filter(|path| path.is_file()).into_iter().collect();
    let folder = apt.join("sources.list.d");
    if folder.is_dir() {
        let mut parts = Vec::new();
        for entry in fs::read_dir(&folder).map_err(SourceError::reading(&folder))? {
            let path = entry.map_err(SourceError::reading(&folder))?.path();
            if path.is_file() && path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
            {
                parts.push(path);
            }
        }
        parts.sort();
        files.extend(parts);
    }
    Ok(files)
}

fn parse_deb822(bytes: &[u8]) -> Vec<AptEntry> {
    let mut stanzas = Stanzas::new(BufReader::new(bytes));
    let mut entries = Vec::new();
    while let Ok(Some(stanza)) = stanzas.next_stanza() {
        let off = stanza
            .get("Enabled")
            .is_some_and(|value| ["no", "false", "0", "off"].contains(&value.to_ascii_lowercase().as_str()));
        if off || !stanza.words("Types").any(|kind| kind == "deb") {
            continue;
        }
        let words = |name| stanza.words(name).map(str::to_owned).collect::<Vec<_>>();
        entries.extend(stanza.words("URIs").map(|uri| AptEntry {
            uri: uri.to_owned(),
            suites: words("Suites"),
            components: words("Components"),
            signed_by: stanza.get("Signed-By").unwrap_or("").to_owned(),
        }));
    }
    entries
}

/// `deb [option=value …] URI suite component…`
fn parse_one_line(line: &str) -> Option<AptEntry> {
    let line = line.split('#').next().unwrap_or("").trim();
    let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).unwrap_or("");
    Some(AptEntry { uri, suites: vec![suite], components: words.collect(), signed_by: signed_by.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_apt(files: &[(&str, &str)]) -> Result<Mirrors, SourceError> {
        let apt = tempfile::tempdir().unwrap();
        fs::create_dir(apt.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            crate::host::file::write(&apt.path().join(name), text.as_bytes()).unwrap();
        }
        choose(&MirrorChoice { option: None, config: None, environment: None, apt: apt.path() })
    }

    fn mirrors(debian: &str, security: &str) -> Mirrors {
        Mirrors { debian: debian.to_owned(), security: security.to_owned(), without: Vec::new() }
    }

    const DEB822: &str = "Types: deb\n# http://old.example/20250520T000000Z\nURIs: http://mirror.example/debian/\n\
        Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb\nURIs:\n http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n";

    #[test]
    fn deb822_with_comments_among_third_parties() {
        let found = with_apt(&[
            ("sources.list.d/debian.sources", DEB822),
            ("sources.list.d/browser.list", "deb [arch=amd64] https://dl.example/chrome/deb/ stable main\n"),
            ("sources.list.d/cloud.list", "deb https://packages.example/apt cloud-sdk-bookworm main\n"),
        ]);
        assert_eq!(found.unwrap(), mirrors("http://mirror.example/debian", "http://mirror.example/debian-security"));
    }

    #[test]
    fn one_line_with_options_and_a_sibling_for_security() {
        let text = "# deb http://off.example/debian trixie main\n\
            deb-src http://source.example/debian trixie main\n\
            deb cdrom:[Debian GNU/Linux 13]/ trixie main\n\
            deb [signed-by=/k.gpg arch=amd64] https://party.example/repo trixie main\n\
            deb [ arch=amd64 ] http://mirror.example/debian trixie main contrib # ours\n";
        let found = with_apt(&[("sources.list", text)]).unwrap();
        assert_eq!(found, mirrors("http://mirror.example/debian", "http://mirror.example/debian-security"));
    }

    #[test]
    fn disabled_entries_and_strangers_do_not_count() {
        let off = DEB822.replace("Types: deb\n", "Enabled: no\nTypes: deb\n");
        let error = with_apt(&[("sources.list.d/debian.sources", &off)]).unwrap_err().to_string();
        for way in ["--mirror", "`mirror:`", "BAKELITE_MIRROR"] {
            assert!(error.contains(way), "{error}");
        }
        let ubuntu = "deb http://archive.example/ubuntu noble main\n";
        assert!(matches!(with_apt(&[("sources.list", ubuntu)]), Err(SourceError::FindMirror { .. })));
        assert!(with_apt(&[("sources.list.d/x.sources", "nonsense\n\u{0}")]).is_err());
    }

    #[test]
    fn option_before_config_before_environment() {
        let apt = Path::new("/nonexistent-folder");
        let mut choice = MirrorChoice {
            option: Some("/srv/debian"),
            config: Some("http://b.example/debian"),
            environment: Some("http://c.example/d http://s.example/sec/"),
            apt,
        };
        assert_eq!(choose(&choice).unwrap(), mirrors("/srv/debian", "/srv/debian-security"));
        choice.option = Some(" ");
        assert_eq!(choose(&choice).unwrap().debian, "http://b.example/debian");
        choice.config = None;
        assert_eq!(choose(&choice).unwrap(), mirrors("http://c.example/d", "http://s.example/sec"));
        for bad in ["mirror.example/debian", "ftp://x.example/", "http://", "a b c", "file:x"] {
            choice.environment = Some(bad);
            assert!(matches!(choose(&choice), Err(SourceError::ReadMirror { .. })), "{bad}");
        }
    }
}
