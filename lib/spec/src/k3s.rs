//! k3s's last words: what its log lines say about why it ended or hangs.
//!
//! Exit status is no health signal (k3s ends with 0 after many errors), so the text decides. The strings are those of
//! k3s and kine (cmd/server/main.go, pkg/cluster, pkg/cgroups, kine pkg/drivers), newest last word first.

use crate::fault::{Code, Fault, Who};

/// A text that k3s logs, and what it means; `…` stands for anything. The first entry that matches a line decides for it.
const LAST_WORDS: &[(&str, Code)] = &[
    // The clock is never set back below what was seen last, so it is the certificate that is ahead (k3s.md 11.1).
    ("x509: certificate has expired or is not yet valid: current time…is before", Code::K3sFutureCertificates),
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
    // A certificate or key that a pulled plug left torn, or without the other one's renewal (Go's crypto/tls).
    ("tls: private key does not match public key", Code::K3sStaleCertificates),
    ("tls: failed to find any PEM data", Code::K3sStaleCertificates),
    ("executable file not found in $PATH", Code::PayloadDamaged),
    ("no default routes found", Code::K3sNoAddress),
    ("unable to select an IP", Code::K3sNoAddress),
];

/// What the last lines of k3s's log say, the newest line first; `None` where no line is known.
pub fn classify(last_lines: &str) -> Option<Fault> {
    last_lines.lines().rev().find_map(|line| {
        let (_, code) = LAST_WORDS.iter().find(|(words, _)| holds(line, words))?;
        Some(Fault::new(*code, line.trim().chars().take(400).collect::<String>()))
    })
}

/// What k3s said last, where nothing of it is known: whoever has to act reads it without going there.
pub fn last_line(last_lines: &str) -> Option<Fault> {
    let line = last_lines.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(Fault::new(Code::K3sFailing, line.chars().take(400).collect::<String>()))
}

/// What k3s says while it starts, and goes on as if nothing were (k3s.md 11.1): its database is damaged.
const SHRUGGED_OFF: &str = "Startup VACUUM failed (non-fatal): database disk image is malformed";

/// What k3s, which is ready, has shrugged off while it started.
pub fn shrugged_off(log: &str) -> Option<Fault> {
    let line = log.lines().find(|line| line.contains(SHRUGGED_OFF))?;
    let fault = Fault::new(Code::K3sDatabaseDamaged, line.trim().chars().take(400).collect::<String>());
    let hint = "Switch the machine off and on: before k3s starts again the database is checked and healed.";
    Some(Fault { who: Who::You, hint: hint.into(), ..fault })
}

fn holds(line: &str, words: &str) -> bool {
    let mut rest = line;
    words.split('…').all(|part| {
        let found = rest.find(part).map(|at| at + part.len());
        rest = &rest[found.unwrap_or(0)..];
        found.is_some()
    })
}

/// What k3s says again and again while it neither ends nor becomes ready, and doesn't listen to SIGTERM (k3s.md 11.1).
const DEAF: [&str; 2] = ["Failed to ping database connection", "CA cert validation failed"];

/// Whether k3s, which isn't ready yet, says nothing else any more: its newest lines are such, and what they mean.
pub fn deaf(last_lines: &str) -> Option<Fault> {
    let mut newest = last_lines.lines().rev().filter(|line| !line.trim().is_empty()).take(3).peekable();
    newest.peek()?;
    newest.all(|line| DEAF.iter().any(|words| line.contains(words))).then(|| classify(last_lines)).flatten()
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

    #[test]
    fn a_damaged_database_that_k3s_starts_upon_is_seen() {
        let log = "level=info msg=\"Starting\"\nlevel=warning msg=\"Startup VACUUM failed (non-fatal): database disk image is \
                   malformed\"\nlevel=info msg=\"k3s is up and running\"";
        let fault = shrugged_off(log).unwrap();
        assert_eq!((fault.code, fault.who), (Code::K3sDatabaseDamaged, Who::You));
        assert_eq!(shrugged_off("Startup VACUUM failed (non-fatal): database or disk is full"), None);
    }

    /// What each way to die comes to, by the beginning of its title in the file; `None` for such as are no deaths, or acts of
    /// cluster-init and cluster-reset, which nothing starts yet.
    const DEATHS: &[(&str, Option<Code>)] = &[
        ("wrong token", Some(Code::K3sWrongToken)),
        ("no token", Some(Code::K3sWrongToken)),
        ("right token after that", Some(Code::K3sStaleCertificates)),
        ("newer file", Some(Code::K3sStaleCertificates)),
        ("older file", None),
        ("server/cred removed alone", Some(Code::K3sStaleCertificates)),
        ("bootstrap value damaged", Some(Code::K3sDatabaseDamaged)),
        ("stale -wal", Some(Code::K3sDatabaseDamaged)),
        ("garbage header", Some(Code::K3sDatabaseDamaged)),
        ("truncated db", Some(Code::K3sDatabaseDamaged)),
        ("one page zeroed", Some(Code::K3sDatabaseDamaged)),
        ("index root zeroed", Some(Code::K3sDatabaseDamaged)),
        ("read-only data dir, existing", Some(Code::K3sDiskUnwritable)),
        ("read-only data dir, first start", Some(Code::K3sDiskUnwritable)),
        ("disk full at start", Some(Code::K3sDiskFull)),
        ("disk full while running", Some(Code::K3sDiskFull)),
        ("data dir is a file", Some(Code::K3sDiskUnwritable)),
        ("https port in use", Some(Code::K3sPortTaken)),
        ("malformed token", Some(Code::K3sMalformedToken)),
        ("second k3s", Some(Code::K3sPortTaken)),
        ("unknown config key (server)", None),
        ("unknown config key (agent)", Some(Code::K3sRefusedSetting)),
        ("bad bool", Some(Code::K3sRefusedSetting)),
        ("invalid YAML", Some(Code::K3sRefusedSetting)),
        ("bad kube-apiserver-arg", Some(Code::K3sRefusedSetting)),
        ("bad kube-controller-manager-arg", Some(Code::K3sRefusedSetting)),
        ("APIServerIdentity=false alone", Some(Code::K3sRefusedSetting)),
        ("host-local missing", Some(Code::PayloadDamaged)),
        ("clock < 1980", Some(Code::K3sClock)),
        ("CA expired", Some(Code::K3sClock)),
        ("interrupted cluster-init", None),
        ("etcd, wrong token", Some(Code::K3sWrongToken)),
        ("cluster-reset", None),
        ("ready", None),
        ("SIGTERM", None),
    ];

    #[test]
    fn each_logged_way_to_die_leads_to_its_fault() {
        let Some(folder) = std::env::var_os("BAKELITE_FIXTURES") else {
            eprintln!("SKIPPED: BAKELITE_FIXTURES is not set, k3s's own last words are not compared");
            return;
        };
        let text = std::fs::read_to_string(std::path::Path::new(&folder).join("last-words.txt")).unwrap();
        let mut seen = 0;
        for section in text.split("### ").filter(|section| !section.trim().is_empty()) {
            let (title, words) = section.split_once('\n').unwrap();
            let expected = DEATHS.iter().find(|(start, _)| title.starts_with(start));
            let (_, expected) = expected.unwrap_or_else(|| panic!("{title} is a new way to die"));
            assert_eq!(classify(words).map(|fault| fault.code), *expected, "{title}: {words}");
            // Such as neither end nor become ready are ended, but for one that says its word only once.
            let repeats = title.contains("repeats each");
            assert_eq!(deaf(words).is_some(), repeats, "{title}");
            seen += 1;
        }
        assert!(seen > 30, "only {seen} ways to die in the file");
    }

    #[test]
    fn torn_certificates_are_stale_ones() {
        for words in ["private key does not match public key", "failed to find any PEM data in key input"] {
            let log = format!("time=\"x\" level=fatal msg=\"Error: apiserver exited: tls: {words}\"");
            assert_eq!(classify(&log).map(|fault| fault.code), Some(Code::K3sStaleCertificates));
        }
    }

    #[test]
    fn of_words_that_nobody_knows_the_last_line_is_told() {
        let said = "time=\"x\" level=fatal msg=\"something new\"\n\n";
        assert_eq!(classify(said), None);
        assert_eq!(last_line(said).unwrap().text, said.trim());
        assert_eq!(last_line("\n \n"), None);
    }

    #[test]
    fn a_certificate_from_the_future_is_told_from_one_that_has_expired() {
        let x509 = "level=error msg=\"Failed to validate connection to cluster at https://127.0.0.1:6443: CA cert validation \
                    failed: tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time";
        let code = |end: &str| classify(&format!("{x509} 2026-11-21T00:00:04Z {end}")).map(|fault| fault.code);
        assert_eq!(code("is before 2040-01-01T00:00:00Z\""), Some(Code::K3sFutureCertificates));
        assert_eq!(code("is after 2020-01-01T00:00:00Z\""), Some(Code::K3sClock));
        assert!(deaf(&format!("a\n{x509} 1\n{x509} 2\n\n{x509} 3\n")).is_some());
        assert!(deaf(&format!("{x509} 1\n{x509} 2\nlevel=info msg=\"Importing images\"\n")).is_none());
        assert!(deaf("").is_none());
    }
}
