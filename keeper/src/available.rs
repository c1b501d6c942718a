//! Whether all of an image's workloads have come up on this machine: what its first owner waits for, and the line that made it.
//!
//! Noted once an image, on state, when it has been so for a while in a good boot. Baked workloads are known by name; what charts
//! and k3s itself have made has to be available as well. Where no database is here that says so (an agent, several servers,
//! no k3s), the good boot is all there is to see.

use crate::backup;
use crate::trial::{self, Steady};
use bakelite_plan::Settings;
use bakelite_spec::account::{AVAILABLE, Available};
use bakelite_spec::appliance::Payload;
use bakelite_spec::apps::{RECORD, Record};
use bakelite_spec::records::Datastore;
use bakelite_spec::update::some_of;
use bakelite_sys::{durable, machine, read_text, words};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So long after the start of the watch it is looked for closely; then as seldom as for everything else.
const CLOSELY: Duration = Duration::from_secs(1800);

/// The watch over an image's workloads.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    steady: Steady,
    missing: Option<String>,
    is_told: bool,
}

/// What a look comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// All have been available, and it wasn't said before.
    News,
    /// There is nothing new to say.
    Known,
    /// They aren't all yet: whether to look again soon.
    Waits(bool),
}

impl Watch {
    /// Begins.
    pub fn new() -> Self {
        Self { began: Instant::now(), steady: Steady::default(), missing: None, is_told: false }
    }

    /// Looks, in a good boot.
    pub fn look(&mut self, settings: &Settings) -> Look {
        let image = &settings.manifest.image;
        if self.is_told {
            return Look::Known;
        }
        let noted = read_text(AVAILABLE).ok().and_then(|text| serde_json::from_str::<Available>(&text).ok());
        if noted.is_some_and(|noted| noted.image == *image) {
            self.is_told = true;
            return Look::News;
        }
        let born = backup::born().filter(|born| born.datastore == Datastore::Sqlite);
        let mut available = BTreeMap::new();
        // A bundle's apps, which may have taken the place of what was baked, have proved themselves already.
        let is_laid_over = Record::read(&read_text(RECORD).unwrap_or_default())
            .is_some_and(|record| record.over(&settings.manifest).is_some());
        let baked = if is_laid_over { &[][..] } else { &settings.manifest.user.workloads };
        let born = born.filter(|_| settings.manifest.payload.kind != Payload::None);
        let missing = match &born {
            Some(born) => trial::look(&born.node, |seen| {
                available.clone_from(&seen.available);
                missing(baked, &seen.available)
            }),
            None => String::new(),
        };
        if self.missing.as_ref() != Some(&missing) {
            log::info!("of the workloads {}", if missing.is_empty() { "none is missing" } else { &missing });
            self.missing = Some(missing.clone());
        }
        if born.is_some() && !self.steady.holds(missing.is_empty(), Instant::now()) {
            return Look::Waits(self.began.elapsed() < CLOSELY);
        }
        let workloads: Vec<String> = available.into_keys().collect();
        let noted = Available { at: machine::clock(), image: image.clone(), workloads };
        if let Err(error) = durable::write_durable(AVAILABLE, &serde_json::to_vec(&noted).unwrap_or_default(), 0o644) {
            log::warn!("{}", words(&error));
            return Look::Waits(false);
        }
        log::info!("all {} workloads have been available", noted.workloads.len());
        self.is_told = true;
        Look::News
    }
}

/// Which workloads aren't available, in words: of those that are baked, and of those that are there.
fn missing(baked: &[String], now: &BTreeMap<String, bool>) -> String {
    let unseen = baked.iter().filter(|name| !now.contains_key(*name)).map(|name| format!("{name} (not there yet)"));
    let down = now.iter().filter(|(_, available)| !**available).map(|(name, _)| name.clone());
    some_of(&unseen.chain(down).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_baked_has_to_be_there_and_what_is_there_has_to_be_available() {
        let baked = ["deployments/default/till".to_string()];
        let now = |seen: &[(&str, bool)]| seen.iter().map(|(name, is)| (name.to_string(), *is)).collect();
        let (till, dns) = ("deployments/default/till", "deployments/kube-system/coredns");
        assert_eq!(missing(&baked, &now(&[(dns, true)])), "deployments/default/till (not there yet)");
        assert_eq!(missing(&baked, &now(&[(till, false), (dns, true)])), till);
        assert_eq!(missing(&baked, &now(&[(till, true), (dns, false)])), dns);
        assert_eq!(missing(&baked, &now(&[(till, true), (dns, true)])), "");
        assert_eq!(missing(&[], &now(&[])), "");
    }
}
