//! For how much memory k3s is tuned: which components run, what is reserved, when pods are evicted, how often Go collects.
//!
//! The figures are those of k3s.md 5.4; the corners of them were measured (11.4: a server with an agent runs in 512 MB
//! with 194 MB left). A GOMEMLIMIT below 200 MiB makes Go thrash, so none is lower.

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::step::publish;
use bakelite_spec::appliance::Tier;

/// The tier of the first start, on state.
pub const FIRST: &str = "/var/lib/bakelite/k3s-tier";

/// What a tier means.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// For a person.
    pub words: &'static str,
    /// How many pods may run.
    pub max_pods: u32,
    /// MiB that are kept for k3s and for the system.
    pub reserved: (u32, u32),
    /// Pods are evicted while fewer MiB are available.
    pub evict_below: u32,
    /// Requests at a time, and of them such as change something; `None` for the API server's own limits.
    pub requests: Option<(u32, u32)>,
    /// Objects that each watch keeps in memory.
    pub watch_cache: Option<u32>,
    /// Lines for k3s's environment.
    pub environment: &'static str,
}

/// What runs of k3s's own components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Components {
    /// Packaged components that don't run.
    pub disable: &'static [&'static str],
    /// Neither the cloud controller nor the network policy controller runs.
    pub without_controllers: bool,
    /// Helm charts aren't looked at.
    pub without_helm: bool,
}

/// The tier for a machine.
pub fn of(facts: &Facts, settings: &Settings) -> Tier {
    const MIB: u64 = 1 << 20;
    match settings.appliance.k3s.tier {
        // What the kernel keeps for itself is missing from the memory it tells.
        Tier::Auto if facts.memory < 768 * MIB => Tier::M512,
        Tier::Auto if facts.memory < 1536 * MIB => Tier::G1,
        Tier::Auto if facts.memory < 3072 * MIB => Tier::G2,
        Tier::Auto => Tier::G4,
        chosen => chosen,
    }
}

/// The tier of the first start, where there was one.
pub fn first(facts: &Facts) -> Option<Tier> {
    serde_json::from_str(facts.file(FIRST)?).ok()
}

/// Keeps the tier whose components run, once.
pub(super) fn remember(facts: &Facts, tier: Tier) -> Option<Action> {
    match first(facts) {
        Some(_) => None,
        None => publish(
            facts,
            FIRST,
            serde_json::to_string(&tier).map_or_else(|_| String::new(), |text| text + "\n"),
            0o600,
        ),
    }
}

/// A tier's figures.
pub fn profile(tier: Tier) -> Profile {
    match tier {
        Tier::M512 => Profile {
            words: "512 MB",
            max_pods: 15,
            reserved: (0, 64),
            evict_below: 48,
            requests: Some((50, 25)),
            watch_cache: Some(20),
            environment: "GOMEMLIMIT=220MiB\nGOGC=50\nCONTAINERD_GOMEMLIMIT=48MiB\n",
        },
        Tier::G1 => Profile {
            words: "1 GB",
            max_pods: 30,
            reserved: (200, 100),
            evict_below: 80,
            requests: Some((100, 50)),
            watch_cache: None,
            environment: "GOMEMLIMIT=350MiB\nGOGC=60\nCONTAINERD_GOMEMLIMIT=64MiB\n",
        },
        Tier::G2 => Profile {
            words: "2 GB",
            max_pods: 60,
            reserved: (300, 150),
            evict_below: 100,
            requests: None,
            watch_cache: None,
            environment: "GOMEMLIMIT=700MiB\nGOGC=75\n",
        },
        Tier::G4 | Tier::Auto => Profile {
            words: "4 GB and more",
            max_pods: 110,
            reserved: (400, 200),
            evict_below: 150,
            requests: None,
            watch_cache: None,
            environment: "",
        },
    }
}

/// A tier's components.
pub fn components(tier: Tier) -> Components {
    match tier {
        Tier::M512 => Components {
            disable: &["local-storage", "metrics-server", "servicelb", "traefik"],
            without_controllers: true,
            without_helm: true,
        },
        Tier::G1 => Components {
            disable: &["metrics-server", "servicelb", "traefik"],
            without_controllers: false,
            without_helm: true,
        },
        Tier::G2 | Tier::G4 | Tier::Auto => {
            Components { disable: &[], without_controllers: false, without_helm: false }
        }
    }
}
