//! k3s's last words: what its log lines say about why it ended or hangs.
//!
//! Exit status is no health signal (k3s ends with 0 after many errors), so the text decides. The strings are those of
//! k3s and kine (cmd/server/main.go, pkg/cluster, pkg/cgroups, kine pkg/drivers), newest last word first.

use crate::fault::{Code, Fault};

/// A text that k3s logs, and what it means. The first entry that matches a line decides for this line.
const LAST_WORDS: &[(&str, Code)] = &[
    ("bootstrap data already found and encrypted with different token", Code::K3sWrongToken),
    ("newer than datastore and could cause a cluster outage", Code::K3sStaleCertificates),
    ("failed to normalize server token", Code::K3sMalformedToken),
    ("failed to normalize token", Code::K3sMalformedToken),
    ("message authentication failed", Code::K3sDatabaseDamaged),
    ("database disk image is malformed", Code::K3sDatabaseDamaged),
    ("file is not a database", Code::K3sDatabaseDamaged),
    ("database or disk is full", Code::K3sDiskFull),
    ("no space left on device", Code::K3sDiskFull),
    ("read-only file system", Code::K3sDiskUnwritable),
    ("not a directory", Code::K3sDiskUnwritable),
    ("unable to open database file", Code::K3sDiskUnwritable),
    ("disk I/O error", Code::K3sDiskUnwritable),
    ("Failed to ping database connection", Code::K3sDatabaseDamaged),
    ("cgroup (v2)", Code::K3sNoCgroup),
    ("failed to find memory cgroup", Code::K3sNoCgroup),
    ("pids cgroup controller not found", Code::K3sNoCgroup),
    ("server time isn't set properly", Code::K3sClock),
    ("CA cert validation failed", Code::K3sClock),
    ("bind: address already in use", Code::K3sPortTaken),
    ("containerd exited", Code::K3sContainerd),
    ("failed to recover state", Code::K3sContainerd),
    ("unknown service runtime.v1.RuntimeService", Code::K3sContainerd),
    ("unrecognized feature gate: APIServerIdentity", Code::K3sRefusesQuiet),
    ("unrecognized feature gate: UnknownVersionInteroperabilityProxy", Code::K3sRefusesQuiet),
    ("invalid argument \"master-count\"", Code::K3sRefusesQuiet),
    ("unknown flag: --endpoint-reconciler-type", Code::K3sRefusesQuiet),
    ("unknown flag", Code::K3sRefusedSetting),
    ("flag provided but not defined", Code::K3sRefusedSetting),
    ("yaml: line", Code::K3sRefusedSetting),
    ("but depends on features that are disabled", Code::K3sRefusedSetting),
    (": parse error", Code::K3sRefusedSetting),
    (".kubeconfig: no such file or directory", Code::K3sStaleCertificates),
    ("executable file not found in $PATH", Code::PayloadDamaged),
    ("no default routes found", Code::K3sNoAddress),
    ("unable to select an IP", Code::K3sNoAddress),
];

/// What the last lines of k3s's log say, the newest line first; `None` where no line is known.
pub fn classify(last_lines: &str) -> Option<Fault> {
    last_lines.lines().rev().find_map(|line| {
        let (_, code) = LAST_WORDS.iter().find(|(words, _)| line.contains(words))?;
        Some(Fault::new(*code, line.trim().chars().take(400).collect::<String>()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_known_line_decides() {
        let log = "level=error msg=\"containerd exited: signal: killed\"\nlevel=info msg=\"bye\"";
        assert_eq!(classify(log).map(|fault| fault.code), Some(Code::K3sContainerd));
        assert_eq!(classify("level=info msg=\"Starting k3s\""), None);
    }

    /// Each way to die that was logged from k3s itself is recognised, or listed here as one without words of its own.
    #[test]
    fn the_logged_ways_to_die_are_recognised() {
        let Some(folder) = std::env::var_os("BAKELITE_FIXTURES") else {
            eprintln!("SKIPPED: BAKELITE_FIXTURES is not set, k3s's own last words are not compared");
            return;
        };
        let text = std::fs::read_to_string(std::path::Path::new(&folder).join("last-words.txt")).unwrap();
        // No deaths at all, or acts of cluster-init and cluster-reset, which nothing starts yet.
        let wordless =
            ["older file", "unknown config key (server)", "interrupted", "cluster-reset", "ready", "SIGTERM"];
        let mut seen = 0;
        for section in text.split("### ").filter(|section| !section.trim().is_empty()) {
            let (title, words) = section.split_once('\n').unwrap();
            let expected = !wordless.iter().any(|start| title.starts_with(start));
            assert_eq!(classify(words).is_some(), expected, "{title}: {words}");
            seen += 1;
        }
        assert!(seen > 30, "only {seen} ways to die in the file");
    }
}
