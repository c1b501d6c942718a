//! From the packages an appliance asks for to all that must go into it.
//!
//! Meets `Pre-Depends` and `Depends`; ignores `Recommends`. The same index and request give the same answer: the
//! highest version of any suite, the first alternative that can be had, of several providers the most important one,
//! then the first by name. It never goes back on a choice. What stands under `without:` is never installed, and
//! whoever needs it goes without, which is reported. Debian's essential packages are not assumed: an appliance
//! unpacks packages, it does not run dpkg. Pure: must not fetch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::error::SourceError;
use super::packages::{Index, Package};
use super::relation::{self, Relation, print_group};
use super::version;

/// A package that goes into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// What the suite says about it.
    pub package: &'a Package,
    /// The first package that needed it; `None` where the appliance asks for it itself.
    pub required_by: Option<&'a str>,
}

impl Chosen<'_> {
    /// "kmod 34.2-2 (for the appliance)".
    fn describe(&self) -> String {
        format!("{} {} (for {})", self.package.name, self.package.version, self.required_by.unwrap_or("the appliance"))
    }
}

/// A need that was left unmet on purpose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// What was needed, as Debian writes it, alternatives included.
    pub name: String,
    /// The package that needs it.
    pub wanted_by: String,
    /// Why it was left out.
    pub why: String,
}

/// The answer: packages and unmet needs, both sorted by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolution<'a> {
    /// What goes into the image.
    pub packages: Vec<Chosen<'a>>,
    /// What does not, and who would have wanted it.
    pub left_out: Vec<LeftOut>,
}

/// Finds all packages that `asked` needs, leaving out those named in `without`.
pub fn resolve<'a>(index: &'a Index, asked: &[String], without: &[String]) -> Result<Resolution<'a>, SourceError> {
    let mut search = Search {
        index,
        without: without.iter().map(String::as_str).collect(),
        chosen: BTreeMap::new(),
        waiting: VecDeque::new(),
        left_out: BTreeSet::new(),
    };
    for name in asked {
        if search.without.contains(name.as_str()) {
            let reason = "it is asked for and stands under `without:` as well".to_owned();
            return Err(SourceError::Resolve { chain: name.clone(), reason });
        }
        let wanted = Relation { name: name.clone(), architecture: None, version: None };
        match search.candidate(&wanted) {
            Some(package) => search.choose(package, None),
            None => {
                let reason = format!("there is no package `{name}` in the suites{}", search.known_versions(&wanted));
                return Err(SourceError::Resolve { chain: name.clone(), reason });
            }
        }
    }
    while let Some(package) = search.waiting.pop_front() {
        search.meet_needs(package)?;
    }
    search.refuse_conflicts()?;
    Ok(Resolution { packages: search.chosen.into_values().collect(), left_out: search.left_out.into_iter().collect() })
}

struct Search<'a, 'w> {
    index: &'a Index,
    without: BTreeSet<&'w str>,
    chosen: BTreeMap<&'a str, Chosen<'a>>,
    waiting: VecDeque<&'a Package>,
    left_out: BTreeSet<LeftOut>,
}

impl<'a> Search<'a, '_> {
    fn choose(&mut self, package: &'a Package, required_by: Option<&'a str>) {
        if !self.chosen.contains_key(package.name.as_str()) {
            self.chosen.insert(&package.name, Chosen { package, required_by });
            self.waiting.push_back(package);
        }
    }

    fn meet_needs(&mut self, package: &'a Package) -> Result<(), SourceError> {
        for group in self.read(relation::parse_groups(&package.depends), package)? {
            if group.iter().any(|need| self.is_met(need)) {
                continue;
            }
            // The first alternative that can be had or is left out decides; a later one is no way around `without:`.
            let answer = group.iter().find_map(|need| match self.candidate(need) {
                _ if self.is_left_out(need) => Some(None),
                Some(found) => Some(Some(found)),
                None => None,
            });
            match answer {
                Some(Some(found)) if !self.chosen.contains_key(found.name.as_str()) => {
                    self.choose(found, Some(&package.name));
                }
                Some(None) => {
                    self.left_out.insert(LeftOut {
                        name: print_group(&group),
                        wanted_by: package.name.clone(),
                        why: "without".to_owned(),
                    });
                }
                _ => return Err(self.unmet(package, &group)),
            }
        }
        Ok(())
    }

    /// Whether what is chosen already satisfies the need.
    fn is_met(&self, need: &Relation) -> bool {
        let by_name = self.chosen.get(need.name.as_str()).is_some_and(|chosen| fits(need, chosen.package));
        by_name
            || self.index.providing(&need.name).any(|(provider, provided)| {
                need.accepts_provided(&provided)
                    && self
                        .chosen
                        .get(provider.name.as_str())
                        .is_some_and(|chosen| std::ptr::eq(chosen.package, provider))
            })
    }

    /// Whether the need names a package of `without`, or can only be met by such.
    fn is_left_out(&self, need: &Relation) -> bool {
        let mut providers = self.index.providing(&need.name).map(|(provider, _)| provider.name.as_str()).peekable();
        self.without.contains(need.name.as_str())
            || self.index.named(&need.name).next().is_none()
                && providers.peek().is_some()
                && providers.all(|name| self.without.contains(name))
    }

    /// The package to take for a need: of its own name the highest version that fits, else the best provider.
    fn candidate(&self, need: &Relation) -> Option<&'a Package> {
        let named = self.index.named(&need.name).filter(|package| fits(need, package));
        // Of equal versions the first suite's: `max_by` would give the last.
        let highest =
            named.reduce(|best, next| if version::compare(&next.version, &best.version).is_gt() { next } else { best });
        highest.or_else(|| {
            let providers = self.index.providing(&need.name);
            providers
                .filter(|(package, provided)| {
                    need.accepts_provided(provided) && !self.without.contains(package.name.as_str())
                })
                .map(|(package, _)| package)
                .min_by(|left, right| {
                    (left.priority, &left.name)
                        .cmp(&(right.priority, &right.name))
                        .then_with(|| version::compare(&right.version, &left.version))
                })
        })
    }

    fn refuse_conflicts(&self) -> Result<(), SourceError> {
        for chosen in self.chosen.values() {
            let package = chosen.package;
            for (text, field) in [(&package.conflicts, "conflicts with"), (&package.breaks, "breaks")] {
                for relation in self.read(relation::parse_list(text), package)? {
                    if let Some(other) = self.excluded(package, &relation) {
                        let (left, right, says) =
                            (chosen.describe(), other.describe(), format!("{field} `{relation}`"));
                        return Err(SourceError::Conflict { left, right, says });
                    }
                }
            }
        }
        Ok(())
    }

    /// The chosen package that `relation` of `package` excludes; never itself.
    fn excluded(&self, package: &Package, relation: &Relation) -> Option<&Chosen<'a>> {
        let named = self.chosen.get(relation.name.as_str()).filter(|other| fits(relation, other.package));
        let provided = || {
            let mut providers = self.index.providing(&relation.name);
            providers.find_map(|(provider, provided)| {
                let other = self.chosen.get(provider.name.as_str())?;
                (std::ptr::eq(other.package, provider)
                    && relation.accepts_provided(&provided)
                    && provider.name != package.name)
                    .then_some(other)
            })
        };
        named.filter(|other| other.package.name != package.name).or_else(provided)
    }

    fn read<T>(&self, parsed: Result<T, relation::BadRelation>, package: &Package) -> Result<T, SourceError> {
        parsed.map_err(|error| SourceError::Resolve { chain: self.chain(package), reason: error.to_string() })
    }

    fn unmet(&self, package: &Package, group: &[Relation]) -> SourceError {
        let known: String = group.iter().map(|need| self.known_versions(need)).collect();
        let reason = format!("it needs `{}`, which the suites cannot give{known}", print_group(group));
        SourceError::Resolve { chain: self.chain(package), reason }
    }

    fn known_versions(&self, need: &Relation) -> String {
        if let Some(chosen) = self.chosen.get(need.name.as_str()) {
            return format!("; {} {} is already chosen", need.name, chosen.package.version);
        }
        let versions: Vec<&str> = self.index.named(&need.name).map(|package| package.version.as_str()).collect();
        if versions.is_empty() { String::new() } else { format!("; they have {} {}", need.name, versions.join(", ")) }
    }

    /// "asked for -> needs -> package".
    fn chain(&self, package: &Package) -> String {
        let mut names = vec![format!("{} {}", package.name, package.version)];
        let mut below = self.chosen.get(package.name.as_str()).and_then(|chosen| chosen.required_by);
        while let Some(name) = below {
            names.push(name.to_owned());
            below = self.chosen.get(name).and_then(|chosen| chosen.required_by);
        }
        names.reverse();
        names.join(" -> ")
    }
}

/// Whether a package of its own name satisfies the need. `:any` and `:native` mean any; an image has one architecture.
fn fits(need: &Relation, package: &Package) -> bool {
    let qualified = need.architecture.as_deref();
    qualified.is_none_or(|wanted| ["any", "native", package.architecture.as_str()].contains(&wanted))
        && need.accepts(&package.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of "name version | field: value | …", a blank line between suites.
    fn index(text: &str) -> Index {
        let mut index = Index::default();
        for (suite, block) in text.trim().split("\n\n").enumerate() {
            let mut stanzas = String::new();
            for line in block.lines() {
                let mut parts = line.split('/').map(str::trim);
                let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
                stanzas.push_str(&format!(
                    "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {:064}\n",
                    0
                ));
                parts.for_each(|field| stanzas.push_str(&format!("{field}\n")));
                stanzas.push('\n');
            }
            index.add(stanzas.as_bytes(), suite, "amd64").unwrap();
        }
        index
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn names(index: &Index, asked: &str, without: &str) -> String {
        match resolve(index, &words(asked), &words(without)) {
            Ok(found) => found
                .packages
                .iter()
                .map(|one| format!("{}={}", one.package.name, one.package.version))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn the_highest_version_of_all_suites() {
        let index = index(
            "kernel 6.12.107 / Depends: image-107\nimage-107 1\n\nkernel 6.12.117 / Depends: image-117 (= 1)\nimage-117 1",
        );
        assert_eq!(names(&index, "kernel", ""), "image-117=1 kernel=6.12.117");
    }

    #[test]
    fn alternatives_provides_and_qualifiers() {
        let index = index(
            "a 1 / Depends: gone | b (>= 2) | c\nb 1\nc 1 / Pre-Depends: virtual, perl:any\nx 1 / Provides: virtual\n\
             d 1 / Provides: virtual\ne 1 / Provides: virtual (= 3) / Priority: important\nperl 5\n\
             f 1 / Depends: virtual (>= 2)\ng 1 / Depends: perl:armhf",
        );
        assert_eq!(names(&index, "a", ""), "a=1 c=1 e=1 perl=5");
        assert_eq!(names(&index, "a x", ""), "a=1 c=1 perl=5 x=1", "what is there already serves");
        assert_eq!(names(&index, "f", ""), "e=1 f=1");
        assert!(names(&index, "g", "").contains("needs `perl:armhf`"));
        let found = resolve(&index, &words("a"), &[]).unwrap();
        assert_eq!(
            found.packages.iter().map(|one| one.required_by).collect::<Vec<_>>(),
            [None, Some("a"), Some("c"), Some("c")]
        );
    }

    #[test]
    fn what_is_left_out_is_reported_and_not_replaced() {
        let index = index(
            "k 1 / Depends: initramfs-tools | dracut, virtual, l\ninitramfs-tools 1\ndracut 1\nl 1\np 1 / Provides: virtual",
        );
        let found = resolve(&index, &words("k"), &words("initramfs-tools p")).unwrap();
        assert_eq!(found.packages.len(), 2);
        let left: Vec<_> = found.left_out.iter().map(|one| (one.name.as_str(), one.wanted_by.as_str())).collect();
        assert_eq!(left, [("initramfs-tools | dracut", "k"), ("virtual", "k")]);
        assert!(names(&index, "k", "k").contains("without"));
    }

    #[test]
    fn what_cannot_be_met_names_the_chain() {
        let index = index("a 1 / Depends: b\nb 2 / Depends: c (>= 3)\nc 2\nd 1 / Depends: c (= 1)");
        let error = names(&index, "a", "");
        assert_eq!(
            error,
            "error: cannot install a -> b 2: it needs `c (>= 3)`, which the suites cannot give; they have c 2"
        );
        assert!(names(&index, "nothing", "").contains("no package `nothing`"));
        assert!(names(&index, "c d", "").contains("c 2 is already chosen"));
    }

    #[test]
    fn conflicts_name_both() {
        let index = index(
            "a 1 / Conflicts: b (<< 3), a-old\nb 2\nb-user 1 / Depends: b\nc 1 / Provides: mta / Conflicts: mta\nd 1 / Provides: mta\n\
             e 1 / Breaks: d (<< 1)",
        );
        let error = names(&index, "a b-user", "");
        assert!(
            error.contains("a 1 (for the appliance) and b 2 (for b-user)")
                && error.contains("conflicts with `b (<< 3)`"),
            "{error}"
        );
        assert_eq!(names(&index, "c", ""), "c=1", "nothing excludes itself");
        assert!(names(&index, "c d", "").contains("`mta`"));
        assert_eq!(names(&index, "d e", ""), "d=1 e=1");
    }

    #[test]
    fn circles_end_and_order_does_not_matter() {
        let index = index("a 1 / Depends: b\nb 1 / Depends: a, c\nc 1");
        assert_eq!(names(&index, "a c", ""), names(&index, "c a", ""));
    }
}
