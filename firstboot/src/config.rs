//! `bakelite config`: what counts on this machine and who set it; and new settings, tried before they are kept.
//!
//! What is applied is tried: the file stands in /run, so that a power cut or a restart undoes it, and init undoes it five
//! minutes later unless it is confirmed. Only `confirm` writes to a medium, in one durable step.

use crate::error::FirstbootError;
use crate::layers::{self, Layers};
use crate::relocate;
use bakelite_plan::identity::RECORD;
use bakelite_spec::answer::Answer;
use bakelite_spec::appliance::Input;
use bakelite_spec::check::value_at;
use bakelite_spec::finding::Finding;
use bakelite_spec::layers::Layer;
use bakelite_spec::status::paths;
use bakelite_sys::{SysError, durable, socket, terminal, tool};
use serde::Serialize;
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// What a new file begins with.
const HEAD: &str = "# Settings of this machine, on top of its image; `bakelite config show` lists all keys.\n";
const EDITED: &str = "/run/bakelite/config-edit.yaml";
const SAME: &str = "Nothing has changed.";
const NFT: &str = "usr/sbin/nft";

/// Does what the words say.
///
/// # Errors
/// When the words mean nothing, the settings aren't right, or something can't be read or written.
pub fn run(answer: Answer, words: &[&str]) -> Result<(), FirstbootError> {
    let root = Path::new("/");
    match words {
        ["show"] => show(answer, root, "")?,
        ["show", key] => show(answer, root, key)?,
        ["apply", "-"] => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|source| SysError::Read { path: "the standard input".into(), source })?;
            apply(answer, root, "the standard input", &text)?;
        }
        ["apply", file] => {
            let text = std::fs::read_to_string(file).map_err(|source| SysError::Read { path: file.into(), source })?;
            apply(answer, root, file, &text)?;
        }
        ["edit"] => {
            let before = current(root).unwrap_or_else(|| HEAD.into());
            durable::replace(EDITED, before.as_bytes(), 0o600)?;
            let editor = std::env::var("EDITOR").unwrap_or_else(|_| "vi".into());
            tool::interactive(&editor, &[EDITED])?;
            let after =
                std::fs::read_to_string(EDITED).map_err(|source| SysError::Read { path: EDITED.into(), source })?;
            if after == before {
                say(answer, SAME);
            } else {
                apply(answer, root, EDITED, &after)?;
            }
        }
        ["confirm"] => {
            let tried = read_trial()?;
            keep(root, &tried)?;
            ask("refit")?;
            say(answer, "The settings are kept.");
        }
        ["undo"] => {
            read_trial()?;
            durable::remove_file(paths::TRIAL)?;
            ask("refit")?;
            say(answer, "The settings of before count again.");
        }
        _ => return Err(FirstbootError::UnknownWords(words.join(" "))),
    }
    Ok(())
}

/// The text that is tried, else the confirmed one.
fn current(root: &Path) -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(root.join(path.trim_start_matches('/'))).ok();
    read(paths::TRIAL).or_else(|| read(paths::APPLIED))
}

fn read_trial() -> Result<String, FirstbootError> {
    std::fs::read_to_string(paths::TRIAL).map_err(|_| FirstbootError::NothingTried)
}

/// Keeps what was tried. The medium comes first: after a cut in between, what was confirmed counts.
fn keep(root: &Path, text: &str) -> Result<(), FirstbootError> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    durable::make_folder(at(paths::APPLIED).parent().unwrap_or(root))?;
    durable::write_durable(at(paths::APPLIED), text.as_bytes(), 0o600)?;
    Ok(durable::remove_file(at(paths::TRIAL))?)
}

/// Checks settings, and has them tried.
fn apply(answer: Answer, root: &Path, file: &str, text: &str) -> Result<(), FirstbootError> {
    let new = layers::below(root)?.with(file, text).map_err(FirstbootError::Settings)?;
    let findings = beyond_a_build(root, &new);
    if !findings.is_empty() {
        return Err(FirstbootError::Settings(findings));
    }
    let before = layers::read(root)?;
    let changes = difference(&before, &new);
    if changes.is_empty() && current(root).is_some_and(|current| current == text) {
        say(answer, SAME);
        return Ok(());
    }
    terminal::print(&answer.many(&changes, || changes.iter().map(Change::words).collect()));
    if new.settings.appliance.hostname != before.settings.appliance.hostname && root.join(&RECORD[1..]).exists() {
        say(answer, "hostname: the node keeps the name that it has.");
    }
    durable::replace(root.join(&paths::TRIAL[1..]), text.as_bytes(), 0o600)?;
    if let Err(error) = ask("try") {
        // Nobody would undo it.
        durable::remove_file(root.join(&paths::TRIAL[1..]))?;
        return Err(error);
    }
    say(
        answer,
        "These settings are tried now. Type `bakelite config confirm` within five minutes to keep them;\n\
         else they are undone by themselves, and by each restart of the machine.",
    );
    Ok(())
}

/// What only this machine can tell: the image may lack what a setting needs.
fn beyond_a_build(root: &Path, new: &Layers) -> Vec<Finding> {
    let is_closed = new.settings.appliance.firewall.input == Input::Closed;
    let lacks = is_closed && !root.join(NFT).exists();
    let finding = || {
        let hint = "baking with `firewall: closed`";
        Finding::error("firewall.input", "this image was baked open and has no nft", hint)
    };
    lacks.then(finding).into_iter().collect()
}

fn ask(words: &str) -> Result<(), FirstbootError> {
    Ok(socket::ask(Path::new(paths::CONTROL), words, relocate::LIMIT)?)
}

fn say(answer: Answer, text: &str) {
    terminal::print(&answer.said(text));
}

fn show(answer: Answer, root: &Path, key: &str) -> Result<(), FirstbootError> {
    let layers = layers::read(root)?;
    let set = set(&layers, key);
    if answer.json {
        // Not a value: whoever reads values must not take it for one.
        layers.settings.local.refused.iter().for_each(|why| eprint!("{}", answer.failed(&format!("not taken: {why}"))));
    }
    terminal::print(&answer.many(&set, || text(&layers, &set)));
    Ok(())
}

/// A key with its value.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Set<'a> {
    key: &'a str,
    value: &'a Value,
    set_by: &'static str,
}

/// All keys that have a value, with who set it; only those at or below `key`, if one is named.
fn set<'a>(layers: &'a Layers, key: &str) -> Vec<Set<'a>> {
    let below = |name: &str| name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    let all = layers.effective.set_by.iter().filter(|(name, _)| key.is_empty() || below(name));
    let one = |(name, layer): (&'a String, &Layer)| {
        let value = value_at(&layers.effective.values, name).unwrap_or(&Value::Null);
        Set { key: name, value, set_by: layer.name() }
    };
    all.map(one).collect()
}

/// The same for a person, what isn't taken first.
pub fn text_of(layers: &Layers) -> String {
    text(layers, &set(layers, ""))
}

fn text(layers: &Layers, set: &[Set<'_>]) -> String {
    let refused = layers.settings.local.refused.iter().map(|why| format!("# not taken: {why}\n"));
    refused.chain(set.iter().map(|set| format!("{}: {}  # {}\n", set.key, set.value, set.set_by))).collect()
}

/// A key whose value changes.
#[derive(Debug, PartialEq, Serialize)]
struct Change {
    key: String,
    before: Value,
    after: Value,
}

impl Change {
    fn words(&self) -> String {
        format!("{}: {} becomes {}\n", self.key, self.before, self.after)
    }
}

/// The keys whose values change.
fn difference(before: &Layers, after: &Layers) -> Vec<Change> {
    let value = |layers: &Layers, name: &str| value_at(&layers.effective.values, name).cloned().unwrap_or(Value::Null);
    let mut names: Vec<&String> = before.effective.set_by.keys().chain(after.effective.set_by.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name: &String| Change { key: name.clone(), before: value(before, name), after: value(after, name) };
    names.into_iter().map(change).filter(|change| change.before != change.after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{machine, write};

    #[test]
    fn what_counts_is_shown_with_who_set_it_and_what_was_not_taken() {
        let root = machine("k3s: rehearsal\n");
        write(root.path(), paths::APPLIED, "network: {wait: 5}\n");
        let show = |key: &str| {
            let layers = layers::read(root.path()).unwrap();
            text(&layers, &set(&layers, key))
        };
        let text = show("");
        assert!(text.contains("network.wait: 5  # bakelite config\n"), "{text}");
        assert!(text.contains("k3s.payload: \"rehearsal\"  # appliance\n"), "{text}");
        assert!(text.contains("memory.zram: \"auto\"  # default\n"), "{text}");
        let part = show("network");
        assert!(part.lines().all(|line| line.starts_with("network.")), "{part}");
        write(root.path(), paths::APPLIED, "network: {wait: soon}\n");
        let text = show("network.wait");
        assert!(text.starts_with("# not taken: /var/lib/bakelite/settings/applied.yaml:1:17: network.wait"), "{text}");
        assert!(text.ends_with("network.wait: 15  # default\n"), "{text}");
    }

    #[test]
    fn settings_are_checked_like_a_build_and_nothing_is_written_before() {
        let root = machine("k3s: rehearsal\n");
        for (text, problem) in [
            ("network: {wait: soon}\n", "x.yaml:1:17: network.wait"),
            ("ssh: {keys: []}\n", "x.yaml:1:1: ssh: can't be set at the machine"),
            ("firewall: {input: closed}\n", "no nft"),
            ("k3s: {role: agent}\n", "k3s.server: is missing"),
            ("network: {wait: 20}\n", "asking over the control socket"),
            ("k3s: {config: {node-name: x}}\n", "k3s.config.node-name: is chosen by the appliance itself"),
        ] {
            let refused = apply(Answer::default(), root.path(), "x.yaml", text).unwrap_err().to_string();
            assert!(refused.contains(problem), "{text}: {refused}");
            assert!(!root.path().join(&paths::TRIAL[1..]).exists());
        }
    }

    #[test]
    fn what_is_confirmed_is_on_the_medium_before_the_trial_ends() {
        let root = machine("k3s: rehearsal\n");
        write(root.path(), paths::TRIAL, "network: {wait: 7}\n");
        let wait = || layers::read(root.path()).unwrap().settings.appliance.network.wait.0;
        assert_eq!((wait(), current(root.path()).is_some()), (7, true));
        keep(root.path(), "network: {wait: 7}\n").unwrap();
        assert!(!root.path().join(&paths::TRIAL[1..]).exists());
        assert_eq!(wait(), 7);
        write(root.path(), paths::TRIAL, "network: {wait: 9}\n");
        assert_eq!(wait(), 9);
        // What a restart does to a file in /run.
        durable::remove_file(root.path().join(&paths::TRIAL[1..])).unwrap();
        assert_eq!(wait(), 7);
    }

    #[test]
    fn a_change_is_told_key_by_key() {
        let root = machine("k3s: rehearsal\nnetwork: {dns: [9.9.9.9]}\n");
        let before = layers::read(root.path()).unwrap();
        let after = layers::below(root.path()).unwrap().with("x", "network: {dns: [1.1.1.1]}\n").unwrap();
        let changes: String = difference(&before, &after).iter().map(Change::words).collect();
        assert_eq!(changes, "network.dns: [\"9.9.9.9\"] becomes [\"1.1.1.1\"]\n");
    }
}
