//! k3s's certificates: when the first of them expires, and a restart that is planned and announced before that.
//!
//! k3s renews leaf certificates only at its start, and only in their last months (k3s: 120 days, older versions 90). A
//! node that is up for eight months has to be restarted once. What is next is decided here; pure but for reading files.

use bakelite_datastore::certificate::not_after;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::set::instant;
use bakelite_spec::status::Restart;
use bakelite_sys::{names_in, read_text};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The folders with k3s's certificates, and those below the first.
const FOLDERS: &[&str] = &[
    "/var/lib/rancher/k3s/server/tls",
    "/var/lib/rancher/k3s/server/tls/etcd",
    "/var/lib/rancher/k3s/server/tls/kube-scheduler",
    "/var/lib/rancher/k3s/server/tls/kube-controller-manager",
    "/var/lib/rancher/k3s/agent",
];
const DAY: i64 = 86_400;
/// With less left, a restart is planned: by then each version of k3s renews.
const SOON: i64 = 60 * DAY;
/// So long before the restart it is announced, if there is time.
const ANNOUNCED: i64 = DAY;
/// With less left there is no time for a night.
const URGENT: i64 = 3 * DAY;
/// After a restart that changed nothing, the next attempt.
const AGAIN: i64 = 7 * DAY;
/// An authority is made for ten years, and nobody renews it.
const AUTHORITY: i64 = 180 * DAY;
/// The hour of the day, in seconds (UTC), from which on a restart may be planned.
const NIGHT: i64 = 2 * 3600;

/// When certificates expire, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// The first of the leaves.
    pub leaf: Option<i64>,
    /// The first of the authorities.
    pub authority: Option<i64>,
}

/// The plan that was made, on the state partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// When the restart is to be, in seconds since 1970.
    pub at: i64,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<i64>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing; a plan that was made is over.
    Nothing,
    /// The restart is planned and told.
    Announce(Plan),
    /// It is told already, and its time hasn't come.
    Wait(Plan),
    /// Its time has come.
    Restart(Plan),
    /// It was done, and the certificates are as they were.
    InVain,
}

/// What is next. `shift` is a node's own part of an hour in seconds, so that not all restart at once.
pub fn next(expiry: Expiry, plan: Option<Plan>, now: i64, shift: i64) -> Next {
    let Some(leaf) = expiry.leaf.filter(|leaf| leaf - now < SOON) else { return Next::Nothing };
    match plan {
        Some(Plan { done: Some(done), .. }) if (0..AGAIN).contains(&(now - done)) => Next::InVain,
        Some(plan) if plan.done.is_none() && now < plan.at && plan.at - now <= 2 * DAY + ANNOUNCED => Next::Wait(plan),
        // One that the machine slept through is made again: nobody wants it in the middle of the day.
        Some(plan) if plan.done.is_none() && (0..2 * 3600).contains(&(now - plan.at)) => Next::Restart(plan),
        _ if leaf - now < URGENT => Next::Announce(Plan { at: now + 600, done: None }),
        _ => {
            let first = now + ANNOUNCED - NIGHT - shift;
            let at = (first.div_euclid(DAY) + 1) * DAY + NIGHT + shift;
            Next::Announce(Plan { at, done: None })
        }
    }
}

/// The announcement of a planned restart.
pub fn announced(plan: Plan, expiry: Expiry) -> Restart {
    let date = expiry.leaf.map(instant).unwrap_or_default();
    Restart { at: plan.at, why: format!("k3s renews its certificates only at a start, and the first expires {date}") }
}

/// What is wrong with them.
pub fn faults(expiry: Expiry, is_in_vain: bool, now: i64) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(leaf) = expiry.leaf.filter(|leaf| is_in_vain || leaf - now < URGENT) {
        let so = if is_in_vain { ", and a restart of k3s didn't renew it" } else { "" };
        faults.push(Fault::new(
            Code::CertificatesExpire,
            format!("a certificate of k3s's expires {}{so}", instant(leaf)),
        ));
    }
    if let Some(authority) = expiry.authority.filter(|authority| authority - now < AUTHORITY) {
        let text = format!("the cluster's own authority expires {}, and k3s never renews it", instant(authority));
        faults.push(Fault::new(Code::CertificatesExpire, text));
    }
    faults
}

/// Reads when k3s's certificates expire. A file that can't be read says nothing.
pub fn look() -> Expiry {
    let mut expiry = Expiry::default();
    for folder in FOLDERS.iter().map(Path::new) {
        for name in names_in(folder).into_iter().filter(|name| name.ends_with(".crt")) {
            let path = folder.join(&name);
            let Some(end) = read_text(&path).ok().and_then(|text| not_after(&text)) else {
                log::debug!("{} is no certificate", path.display());
                continue;
            };
            let is_authority = name.contains("-ca.");
            let first = if is_authority { &mut expiry.authority } else { &mut expiry.leaf };
            *first = Some(first.map_or(end, |first| first.min(end)));
        }
    }
    expiry
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_280_100;

    fn leaf(days: i64) -> Expiry {
        Expiry { leaf: Some(NOW + days * DAY), authority: Some(NOW + 3000 * DAY) }
    }

    #[test]
    fn a_restart_is_planned_for_a_night_told_a_day_before_done_once_and_then_given_up() {
        assert_eq!(next(leaf(61), None, NOW, 600), Next::Nothing);
        assert_eq!(next(Expiry::default(), None, NOW, 600), Next::Nothing);
        let Next::Announce(plan) = next(leaf(59), None, NOW, 600) else { panic!("not planned") };
        assert!((DAY..=2 * DAY).contains(&(plan.at - NOW)), "{}", plan.at - NOW);
        assert_eq!(plan.at.rem_euclid(DAY), NIGHT + 600);
        assert_eq!(next(leaf(59), Some(plan), NOW + 60, 600), Next::Wait(plan));
        assert_eq!(next(leaf(59), Some(plan), plan.at, 600), Next::Restart(plan));
        assert!(matches!(next(leaf(59), Some(plan), plan.at + 9 * 3600, 600), Next::Announce(later) if later != plan));
        let done = Plan { done: Some(plan.at), ..plan };
        assert_eq!(next(leaf(59), Some(done), plan.at + 60, 600), Next::InVain);
        assert!(matches!(next(leaf(59), Some(done), plan.at + AGAIN, 600), Next::Announce(_)));
        assert_eq!(next(leaf(400), Some(done), plan.at + 60, 600), Next::Nothing, "it was renewed");
        let Next::Announce(urgent) = next(leaf(2), None, NOW, 600) else { panic!("not planned") };
        assert_eq!(urgent.at, NOW + 600, "there is no time for a night");
        // The clock was put back by years after the plan was made.
        assert!(matches!(next(leaf(59), Some(Plan { at: NOW + 900 * DAY, done: None }), NOW, 0), Next::Announce(_)));
    }

    #[test]
    fn what_nobody_renews_is_told() {
        assert_eq!(faults(leaf(59), false, NOW), []);
        assert!(faults(leaf(59), true, NOW)[0].text.ends_with("a restart of k3s didn't renew it"));
        assert_eq!(faults(leaf(2), false, NOW).len(), 1);
        let old = Expiry { authority: Some(NOW + 100 * DAY), ..leaf(300) };
        assert!(faults(old, false, NOW)[0].text.contains("authority"));
        assert!(announced(Plan { at: 1, done: None }, leaf(59)).why.contains("2027-01-19"));
    }
}
