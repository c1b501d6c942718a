//! In a boot that tries an update: whether the workloads that were available before it are so again.
//!
//! What is seen goes into two small files that init reads: a boot without its workloads isn't a good one. Right after a start
//! k3s's controllers still say what was before it; so they have to be available for a while, on a node that has come up in this boot.

use crate::backup;
use bakelite_datastore::workloads::{self, Workloads};
use bakelite_plan::{Settings, cluster};
use bakelite_spec::cmdline::Cmdline;
use bakelite_spec::update::{PATH, Update, WORKLOADS_BACK, WORKLOADS_MISSING};
use bakelite_sys::{SysError, durable, machine, read_text, words};
use std::path::Path;
use std::time::{Duration, Instant};

/// So long they have to be available without a break: the kubelet has said what it sees several times by then.
const STEADY: Duration = Duration::from_secs(60);

/// For how long nothing has been missing.
#[derive(Debug, Default)]
pub(crate) struct Steady {
    since: Option<Instant>,
}

impl Steady {
    /// Whether nothing has been missing for long enough.
    pub(crate) fn holds(&mut self, all: bool, now: Instant) -> bool {
        if !all {
            self.since = None;
            return false;
        }
        now.duration_since(*self.since.get_or_insert(now)) >= STEADY
    }
}

/// The watch over one trial.
#[derive(Debug, Default)]
pub struct Trial {
    steady: Steady,
    told: Option<String>,
}

impl Trial {
    /// Looks, where an update is tried that has workloads to wait for; whether that is so.
    pub fn look(&mut self, settings: &Settings) -> bool {
        let update = read_text(PATH).ok().and_then(|text| Update::read(&text));
        let line = Cmdline::parse(&read_text("/proc/cmdline").unwrap_or_default());
        let slot = line.slot().unwrap_or_default();
        let update = update.filter(|update| update.is_trial_of(slot, &settings.manifest.image));
        let Some(update) = update.filter(|update| !update.workloads.is_empty()) else { return false };
        let node = backup::born().map(|born| born.node).unwrap_or_default();
        let missing = look(&node, |seen| update.missing(&seen.available));
        if let Err(error) = self.tell(&missing, Instant::now()) {
            log::warn!("{}", words(&error));
        }
        true
    }

    fn tell(&mut self, missing: &str, now: Instant) -> Result<(), SysError> {
        if self.told.as_deref() != Some(missing) {
            durable::replace(WORKLOADS_MISSING, missing.as_bytes(), 0o644)?;
            log::info!(
                "of the workloads from before the update {}",
                if missing.is_empty() { "none is missing" } else { missing }
            );
            self.told = Some(missing.into());
        }
        match self.steady.holds(missing.is_empty(), now) {
            true => durable::replace(WORKLOADS_BACK, b"back\n", 0o644),
            false => durable::remove_file(WORKLOADS_BACK),
        }
    }
}

/// What is missing now, in words: the node, what `missing` finds of workloads, or the database itself. Nothing where all is there.
pub(crate) fn look(node: &str, missing: impl FnOnce(&Workloads) -> String) -> String {
    match workloads::look(Path::new(cluster::DATABASE), &machine::boot(Path::new("/"))) {
        Ok(seen) => of_node(node, &seen, missing),
        Err(error) => words(&error),
    }
}

fn of_node(node: &str, seen: &Workloads, missing: impl FnOnce(&Workloads) -> String) -> String {
    if seen.up.contains(node) { missing(seen) } else { format!("the node {node} isn't ready") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_has_to_be_there_for_a_while_and_on_a_node_of_this_boot() {
        let update = Update { workloads: vec!["deployments/a/till".into()], ..Update::default() };
        let seen = |up: &[&str], is: bool| Workloads {
            available: [("deployments/a/till".to_string(), is)].into(),
            up: up.iter().map(ToString::to_string).collect(),
            ..Workloads::default()
        };
        let missing = |seen: Workloads| of_node("shop-1", &seen, |seen| update.missing(&seen.available));
        assert_eq!(missing(seen(&["shop-2"], true)), "the node shop-1 isn't ready");
        assert_eq!(missing(seen(&["shop-1"], false)), "deployments/a/till");
        assert_eq!(missing(seen(&["shop-1"], true)), "");
        let (mut steady, start) = (Steady::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!steady.holds(true, at(0)) && !steady.holds(true, at(50)));
        assert!(!steady.holds(false, at(55)) && !steady.holds(true, at(70)), "it begins anew");
        assert!(!steady.holds(true, at(129)) && steady.holds(true, at(130)));
    }
}
