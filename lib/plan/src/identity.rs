//! Identity: the node's name and its secrets, made once, before k3s ever starts, and never changed by a new setting.
//!
//! Order: what the state partition says, else the seal of the data disk, else the set that is restored, else what the seed
//! says, else made new. A seed for another node refuses. Where state doesn't outlive the boot, or it isn't clear yet what
//! becomes of the data disk, nothing is made: a
//! second identity of the same machine is worse than none.

use crate::Settings;
use crate::action::Action;
use crate::facts::Facts;
use crate::step::{Decision, publish};
use crate::{cluster, data_disk, hostname, restore, seed};
use bakelite_spec::fault::{Code, Fault};
use serde::{Deserialize, Serialize};

/// The identity's record.
pub const RECORD: &str = "/var/lib/bakelite/identity.json";
/// The cluster's token; k3s reads it by `token-file`.
pub const TOKEN: &str = "/var/lib/bakelite/token";

/// The key with which this machine opens its own backups (age). No two machines of one image share it.
pub const DEVICE_KEY: &str = "/var/lib/bakelite/device.key";

/// The node's own password, which the cluster checks when the node comes back; k3s makes none where there is one.
pub const PASSWORD: &str = "/etc/rancher/node/password";

/// Who this machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Identity {
    /// The format of this record.
    pub format: u32,
    /// The node's name.
    pub node: String,
}

impl Identity {
    /// Reads the record; `None` where it is none.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// The identity on state, if there is one that can be read.
pub fn of(facts: &Facts) -> Option<Identity> {
    facts.file(RECORD).and_then(Identity::read)
}

/// The node's name: the identity's, else the one that the seed is for, else what the pattern gives.
pub fn node_name(facts: &Facts, settings: &Settings) -> String {
    let by_name = || {
        let seed = seed::of(facts);
        let pattern = seed.node.as_ref().unwrap_or(&settings.appliance.hostname);
        hostname::expand(pattern, facts, &seed.values, &settings.manifest.board_name)
    };
    of(facts).map(|identity| identity.node).or_else(|| restore::node(facts, settings)).unwrap_or_else(by_name)
}

/// Decides about the identity.
pub fn decide(facts: &Facts, settings: &Settings) -> Decision {
    if !facts.state_is_durable {
        let text = "the state partition isn't available, so this machine has no identity to start k3s with";
        return Decision::Refuse(Fault::new(Code::StateUnavailable, text));
    }
    if facts.has(RECORD) && of(facts).is_none() {
        let text = format!("{RECORD} can't be read, and a new identity would be another node");
        return Decision::Refuse(Fault::new(Code::IdentityConflict, text));
    }
    let sealed = facts.attached().and_then(|(disk, data)| Some((disk, data.content.as_ref()?.seal.as_ref()?)));
    if let Some(fault) = seed::conflict(facts) {
        return Decision::Refuse(fault);
    }
    match (of(facts), sealed) {
        (Some(own), Some((disk, seal))) if own.node != seal.node => {
            let text = format!("this card is {}'s, and the data disk {} is {}'s", own.node, disk.words(), seal.node);
            Decision::Refuse(Fault::new(Code::IdentityConflict, text))
        }
        (Some(own), _) if !facts.has(TOKEN) && restore::asks(facts, settings) => {
            Decision::Done(format!("this machine is {}, and its lost token is replaced", own.node))
        }
        (Some(own), _) if facts.token_lost && !facts.has(TOKEN) => {
            let text = format!(
                "the token of {}'s cluster is lost: neither k3s's own files nor a sealed identity have one that opens its database; \
                 `bakelite rekey` makes a new one",
                own.node
            );
            Decision::Refuse(Fault::new(Code::K3sWrongToken, text))
        }
        (Some(own), _) => make(facts, own, "this machine is"),
        (None, Some((disk, seal))) => {
            let why = format!("this machine is {} again, as sealed on {}", seal.node, disk.words());
            Decision::Run(why, vec![Action::Unseal])
        }
        (None, None) => {
            let data_disk = data_disk::decide(facts, settings);
            match data_disk {
                Decision::Wait(why, _) => Decision::Wait(why, None),
                decision if data_disk::withholds(&decision) => {
                    Decision::Skip("no identity is made before it is clear what becomes of the data disk".into())
                }
                _ if restore::withholds(facts, settings) => {
                    Decision::Skip("no identity is made before it is clear whether a backup brings one".into())
                }
                _ => {
                    let node = node_name(facts, settings);
                    make(facts, Identity { format: 1, node }, "this machine becomes")
                }
            }
        }
    }
}

/// Makes what is missing of an identity.
fn make(facts: &Facts, identity: Identity, what: &str) -> Decision {
    let secret = |path: &str| (!facts.has(path)).then(|| Action::MakeSecret { path: path.into() });
    // A new token opens no database that is there already.
    let token = || {
        let found = cluster::of(facts).map(|_| Action::FindToken { path: TOKEN.into() }).filter(|_| !facts.has(TOKEN));
        found.or_else(|| secret(TOKEN))
    };
    // The record comes last: with it, all of the identity is there.
    let record = publish(facts, RECORD, json(&identity), 0o600);
    let key = (!facts.has(DEVICE_KEY)).then(|| Action::MakeDeviceKey { path: DEVICE_KEY.into() });
    let actions: Vec<Action> = [token(), secret(PASSWORD), key, record].into_iter().flatten().collect();
    let name = &identity.node;
    Decision::of(actions, format!("this machine is {name}"), format!("{what} {name}, with secrets of its own"))
}

fn json(identity: &Identity) -> String {
    serde_json::to_string(identity).map_or_else(|_| String::new(), |text| text + "\n")
}
