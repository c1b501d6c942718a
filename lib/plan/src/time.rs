//! Time: k3s's certificates count from the moment of its very first start, so that start waits for the network's time.
//!
//! Only on a machine whose own clock was behind what is known at least (a board without one begins in 1970). Nobody is waited
//! for without a link, with one at most `time.wait`. Then k3s starts from the clock's floor: a later jump ahead leaves its
//! certificates valid, and such as were made ahead of the time the step `tls` sets aside. Only `time.required` withholds it.

use crate::Settings;
use crate::action::Action;
use crate::cluster;
use crate::facts::Facts;
use crate::step::Decision;
use bakelite_spec::appliance::Payload as Kind;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::status::paths;

/// With `time.required`: how long one pass waits before it says that it does, in seconds.
const PATIENCE: u64 = 600;

/// Decides about the time.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    let time = &settings.appliance.time;
    if settings.manifest.payload.kind == Kind::None {
        return Decision::Skip("nothing here needs the time".into());
    }
    if facts.clock_is_set {
        return Decision::Done("the clock was compared with the network's".into());
    }
    if cluster::of(facts).is_some() {
        return Decision::Done("only the very first start of k3s waits for the time".into());
    }
    if !time.required {
        if !facts.has(paths::CLOCK_LIFTED) {
            return Decision::Done("the machine's own clock is believed".into());
        }
        if time.servers.is_empty() || time.wait.0 == 0 {
            return Decision::Done("nobody is asked for the time: k3s starts with what is known at least".into());
        }
    }
    let link = facts.links.iter().find(|link| link.carrier);
    let limit = if time.required { PATIENCE } else { time.wait.0 };
    let seconds = limit.saturating_sub(facts.waited_for_time);
    match link {
        Some(link) if seconds > 0 => {
            let why = format!("{} has a carrier, waiting for the time from the network", link.name);
            Decision::Run(why, vec![Action::AwaitTime { seconds }])
        }
        _ if time.required => {
            let fault = Fault::new(Code::K3sClock, "nobody tells the time, which k3s has to wait for (time.required)");
            Decision::Wait(fault.text.clone(), Some(fault))
        }
        Some(_) => {
            let text = format!("nobody told the time in {limit} s: k3s starts with what is known at least");
            Decision::Warn(Fault::new(Code::K3sClock, text))
        }
        None => Decision::Done("no link has a carrier: k3s starts with what is known at least".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Link;
    use crate::testing::settings;
    use serde_json::json;

    /// A machine whose clock began in 1970.
    fn machine(carrier: bool) -> Facts {
        let link = Link { name: "eth0".into(), carrier, ..Link::default() };
        Facts { links: vec![link], present: vec![paths::CLOCK_LIFTED.into()], ..Facts::default() }
    }

    fn kind(facts: &Facts, time: &serde_json::Value) -> &'static str {
        decide(facts, &settings(&json!({ "time": time }))).kind()
    }

    #[test]
    fn the_first_start_waits_as_long_as_was_said_and_only_with_a_link() {
        let facts = machine(true);
        let Decision::Run(_, actions) = decide(&facts, &settings(&json!({}))) else { panic!("it doesn't wait") };
        assert_eq!(actions, [Action::AwaitTime { seconds: 60 }]);
        assert_eq!(kind(&Facts { waited_for_time: 60, ..facts.clone() }, &json!({})), "warn");
        assert_eq!(kind(&Facts { clock_is_set: true, ..facts.clone() }, &json!({})), "done");
        assert_eq!(
            kind(&Facts { present: Vec::new(), ..facts.clone() }, &json!({})),
            "done",
            "it has a clock of its own"
        );
        assert_eq!(kind(&machine(false), &json!({})), "done");
        assert_eq!(kind(&facts, &json!({ "wait": "0s" })), "done");
        assert_eq!(kind(&facts, &json!({ "servers": [] })), "done");
    }

    #[test]
    fn only_a_word_withholds_k3s() {
        let required = json!({ "required": true });
        assert_eq!(kind(&machine(true), &required), "run");
        assert_eq!(kind(&Facts { waited_for_time: PATIENCE, ..machine(true) }, &required), "wait");
        assert_eq!(kind(&machine(false), &required), "wait");
        assert_eq!(kind(&Facts { clock_is_set: true, ..machine(false) }, &required), "done");
    }

    #[test]
    fn a_machine_that_has_had_a_cluster_waits_no_more() {
        let mut facts = machine(true);
        let born = json!({"format": 1, "epoch": 0, "node": "n", "datastore": "sqlite", "row": "/bootstrap/x", "revision": 5,
            "k3s": "v1.36.2+k3s1"});
        facts.files.insert(cluster::ON_STATE.into(), born.to_string());
        assert!(cluster::of(&facts).is_some());
        assert_eq!(kind(&facts, &json!({})), "done");
    }
}
