//! The status page: name, addresses, what the machine is doing, what is wrong, who must act and how.

use bakelite_spec::event::UnitState;
use bakelite_spec::set::instant;
use bakelite_spec::status::Status;

/// The page for a status, as plain text of at most 78 columns where words allow.
pub fn page(status: &Status) -> String {
    let mut lines = vec![format!("Bakelite {}   image {}   system {}", status.version, status.image, status.slot)];
    if status.debug {
        lines.push("*** DEBUG IMAGE: a root shell is open on the serial console ***".into());
    }
    lines.push(String::new());
    let name = if status.hostname.is_empty() { "(no name yet)" } else { &status.hostname };
    lines.push(format!("  name      {name}"));
    if status.addresses.is_empty() {
        lines.push("  address   none yet".into());
    }
    for (link, addresses) in &status.addresses {
        lines.push(format!("  address   {} ({link})", addresses.join(", ")));
    }
    lines.push(format!("  payload   {}", status.payload));
    lines.push(format!("  now       {}", status.doing));
    for (name, unit) in &status.units {
        if matches!(unit.state, UnitState::Failed | UnitState::GivenUp) {
            lines.push(format!("  service   {name}: {}", unit.detail));
        }
        if unit.state == UnitState::Waiting && !unit.detail.is_empty() {
            lines.push(format!("  waiting   {name}: {}", unit.detail));
        }
    }
    if let Some(restart) = status.watch.as_ref().and_then(|watch| watch.restart.as_ref()) {
        lines.push(format!("  planned   k3s is restarted {}: {}", instant(restart.at), restart.why));
    }
    for fault in &status.faults {
        lines.push(String::new());
        lines.push(format!("  WRONG     {} ({})", fault.text, fault.code.name()));
        lines.push(format!("  WHO       {}", fault.who.words()));
        lines.push(format!("  DO        {}", fault.hint));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::fault::{Code, Fault};
    use bakelite_spec::status::{Restart, UnitStatus, Watch};

    #[test]
    fn what_is_wrong_and_who_must_act_is_on_it() {
        let mut status = Status { debug: true, doing: "waiting".into(), ..Status::default() };
        assert!(page(&status).contains("DEBUG IMAGE"));
        status.faults.push(Fault::new(Code::K3sWrongToken, "the token is another one"));
        let page = page(&status);
        for words in ["the token is another one", "k3s-wrong-token", "a backup is needed", "bring the token"] {
            assert!(page.contains(words), "{page}");
        }
    }
    #[test]
    fn a_planned_restart_is_announced() {
        let restart = Some(Restart { at: 1_795_280_100, why: "certificates".into() });
        let watch = Some(Watch { restart, ..Watch::default() });
        let page = page(&Status { watch, ..Status::default() });
        assert!(page.contains("  planned   k3s is restarted 2026-11-21 16:55 UTC: certificates"), "{page}");
    }

    #[test]
    fn what_waits_is_not_told_as_failed() {
        let unit = |state, detail: &str| UnitStatus { state, pid: None, starts: 1, detail: detail.into() };
        let units = [
            ("early", unit(UnitState::Waiting, "tries again in 20 s")),
            ("k3s", unit(UnitState::Waiting, "")),
            ("till", unit(UnitState::Failed, "exit status 1")),
        ];
        let units = units.into_iter().map(|(name, unit)| (name.to_string(), unit)).collect();
        let page = page(&Status { units, ..Status::default() });
        assert!(page.contains("  waiting   early: tries again in 20 s\n  service   till: exit status 1"), "{page}");
        assert!(!page.contains("k3s:"), "{page}");
    }
}
