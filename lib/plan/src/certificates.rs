//! Certificates that k3s can't start with: set aside once, so that it makes them anew from its database.
//!
//! k3s itself never mends them: such as were made while the clock was ahead, such as are newer than the database they
//! came with, and a `server/cred` that is lost (k3s.md 3.3, 11.1). What k3s said at its last start tells. Without a
//! bootstrap row in the database they are the only copy, and nothing is touched.

use crate::Settings;
use crate::action::Action;
use crate::debris::{CRED, TLS};
use crate::facts::Facts;
use crate::step::Decision;
use bakelite_spec::appliance::{K3sRole, Payload as Kind};
use bakelite_spec::fault::{Code, Fault, Who};

/// The start after whose complaint certificates were set aside in this boot.
pub const RENEWED: &str = "/run/bakelite/certificates-renewed";

/// Decides about the certificates.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if settings.manifest.payload.kind == Kind::None || settings.appliance.k3s.role == K3sRole::Agent {
        return Decision::Skip("there are no certificates of a server here".into());
    }
    let last = facts.last_start();
    let Some((start, fault)) = last
        .and_then(|start| Some((start.started, start.fault?)))
        .filter(|(_, fault)| matches!(fault.code, Code::K3sStaleCertificates | Code::K3sFutureCertificates))
    else {
        return Decision::Done("k3s has not complained about its certificates".into());
    };
    let start = format!("{start}\n");
    let given_up = |why: &str| {
        let hint = "Keep a copy of /var/lib/rancher/k3s/server, and please report its last words.".into();
        Decision::Refuse(Fault { who: Who::Us, hint, ..Fault::new(fault.code, format!("{}; {why}", fault.text)) })
    };
    match facts.file(RENEWED) {
        Some(renewed) if renewed == start => return Decision::Done("k3s makes its certificates anew".into()),
        Some(_) => return given_up("they were set aside already, and k3s still says so"),
        None => {}
    }
    if facts.database.as_ref().is_none_or(|database| database.row.is_empty()) {
        return given_up("the database has no copy of the keys, so nothing was touched");
    }
    let aside = |path: &str| Action::SetAside { path: path.into() };
    // Certificates first: k3s never starts again where cred alone is missing.
    let mut actions = vec![aside(TLS)];
    if fault.code == Code::K3sStaleCertificates {
        actions.push(aside(CRED));
    }
    actions.push(Action::Tell { path: RENEWED.into(), text: start, mode: 0o644 });
    Decision::Run("k3s's certificates are set aside, as it makes them anew from its database".into(), actions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Database;
    use crate::testing::settings;
    use bakelite_spec::status::{LastStart, paths};
    use serde_json::json;

    fn complaint(code: Code, started: f64) -> Facts {
        let fault = Some(Fault::new(code, "words"));
        let start = LastStart { started, ended: Some(started + 5.0), fault, ..LastStart::default() };
        let database = Database { revision: 9, row: "/bootstrap/a".into(), ..Database::default() };
        let mut facts = Facts { database: Some(database), ..Facts::default() };
        facts.files.insert(paths::LAST_START.into(), serde_json::to_string(&start).unwrap());
        facts
    }

    fn set_aside(facts: &mut Facts) -> Vec<String> {
        let Decision::Run(_, actions) = decide(facts, &settings(&json!({}))) else { return Vec::new() };
        let mut paths = Vec::new();
        for action in actions {
            match action {
                Action::SetAside { path } => paths.push(path),
                Action::Tell { path, text, .. } => drop(facts.files.insert(path, text)),
                other => panic!("{other:?}"),
            }
        }
        paths
    }

    #[test]
    fn certificates_are_set_aside_once_and_cred_never_alone() {
        let mut future = complaint(Code::K3sFutureCertificates, 10.5);
        assert_eq!(set_aside(&mut future), [TLS]);
        assert!(matches!(decide(&future, &settings(&json!({}))), Decision::Done(_)));
        let mut stale = complaint(Code::K3sStaleCertificates, 10.5);
        assert_eq!(set_aside(&mut stale), [TLS, CRED]);
        // It started once more and said the same.
        let mut again = complaint(Code::K3sStaleCertificates, 40.0);
        again.files.insert(RENEWED.into(), stale.files[RENEWED].clone());
        let Decision::Refuse(fault) = decide(&again, &settings(&json!({}))) else { panic!("tried without end") };
        assert_eq!((fault.code, fault.who), (Code::K3sStaleCertificates, Who::Us));
    }

    #[test]
    fn the_only_copy_of_the_keys_and_other_complaints_leave_everything_in_place() {
        let mut facts = complaint(Code::K3sFutureCertificates, 1.0);
        facts.database = Some(Database { revision: 9, ..Database::default() });
        assert!(matches!(decide(&facts, &settings(&json!({}))), Decision::Refuse(_)));
        assert!(matches!(decide(&complaint(Code::K3sClock, 1.0), &settings(&json!({}))), Decision::Done(_)));
        assert!(matches!(decide(&Facts::default(), &settings(&json!({}))), Decision::Done(_)));
    }
}
