//! Events: what happens on a device, as JSON lines for programs (second serial port) and as lines for people.
//!
//! Also the contract by exit status between init and firstboot ([`Outcome`]), which is systemd's as well.

use crate::fault::Fault;
use serde::{Deserialize, Serialize};

/// One event with its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the kernel started (CLOCK_BOOTTIME).
    pub at: f64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// PID 1 runs, in the initramfs.
    Init {
        /// Bakelite's version.
        version: String,
        /// The image's id.
        image: String,
    },
    /// The system partition was found, checked and mounted.
    Slot {
        /// `a` or `b`.
        slot: String,
        /// The disk's name, such as `vda`.
        disk: String,
    },
    /// Something was done to the machine, once.
    Effect {
        /// What was done, in the past tense, with numbers.
        text: String,
    },
    /// A unit changed its state.
    Unit {
        /// The unit's name.
        unit: String,
        /// Its new state.
        state: UnitState,
        /// A few words, such as an exit status or what the unit itself says.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// A step of firstboot decided something.
    Step {
        /// The step's name.
        step: String,
        /// `done`, `skip`, `run` or `refuse`.
        decision: String,
        /// Why, as a sentence.
        why: String,
    },
    /// The default address changed; empty when there is none.
    Address {
        /// The link's name.
        link: String,
        /// The address.
        address: String,
    },
    /// The payload said that it is ready; on a machine without one, network and ssh are up.
    Ready {
        /// What is ready: `k3s`, `rehearsal` or `none`.
        payload: String,
    },
    /// This boot counts as good, and its loader entry is counted no more.
    Good,
    /// Something went wrong that the machine can't get over by itself.
    Fault(Fault),
    /// The machine goes down.
    Shutdown {
        /// `reboot`, `poweroff` or `halt`.
        action: String,
        /// Why.
        why: String,
    },
}

impl What {
    /// In a person's words, on one line.
    pub fn words(&self) -> String {
        match self {
            Self::Init { version, image } => format!("Bakelite {version}, image {image}"),
            Self::Slot { slot, disk } => format!("system {slot} found on {disk}"),
            Self::Effect { text } => text.clone(),
            Self::Unit { unit, state, detail } => {
                let state = serde_json::to_value(state).ok().and_then(|value| value.as_str().map(String::from));
                let state = state.unwrap_or_default().replace('-', " ");
                if detail.is_empty() { format!("{unit}: {state}") } else { format!("{unit}: {state}: {detail}") }
            }
            Self::Step { step, decision, why } => format!("step {step}: {decision}: {why}"),
            Self::Address { link, address } if address.is_empty() => format!("no address (was on {link})"),
            Self::Address { link, address } => format!("address {address} on {link}"),
            Self::Ready { payload } if payload == "none" => "READY: network and ssh are up".into(),
            Self::Ready { payload } => format!("READY: {payload}"),
            Self::Good => "this boot counts as good".into(),
            Self::Fault(fault) => {
                format!("FAULT {}: {} ({}) {}", fault.code.name(), fault.text, fault.who.words(), fault.hint)
            }
            Self::Shutdown { action, why } => format!("going down ({action}): {why}"),
        }
    }
}

/// The state of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitState {
    /// Not wanted now, or waiting for what stands before it.
    Waiting,
    /// Started, not ready yet.
    Starting,
    /// Ready.
    Running,
    /// A one-shot that ended well.
    Done,
    /// Asked to stop.
    Stopping,
    /// Ended; it will be started again after a pause.
    Failed,
    /// Ended, and starting it again can't help.
    GivenUp,
}

/// What firstboot asks of init, by its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 0: go on.
    GoOn,
    /// 75: try again later.
    TryAgain,
    /// 77: refused, a human is needed.
    Refused,
    /// 79: reboot, please.
    Reboot,
    /// 80: switch off, please: an installer is done with this machine.
    PowerOff,
    /// Anything else, signals included: it died.
    Died,
}

impl Outcome {
    /// The exit status that stands for it; a death has none.
    pub fn status(self) -> Option<u8> {
        match self {
            Self::GoOn => Some(0),
            Self::TryAgain => Some(75),
            Self::Refused => Some(77),
            Self::Reboot => Some(79),
            Self::PowerOff => Some(80),
            Self::Died => None,
        }
    }

    /// Of two ends the one that keeps the machine longer from going on. A restart comes first: nothing else helps then.
    #[must_use]
    pub fn graver(self, other: Self) -> Self {
        let order = [Self::GoOn, Self::TryAgain, Self::Refused, Self::PowerOff, Self::Reboot, Self::Died];
        let place = |outcome| order.iter().position(|other| *other == outcome);
        if place(other) > place(self) { other } else { self }
    }

    /// Reads an exit status; `None` stands for a signal.
    pub fn read(status: Option<i32>) -> Self {
        [Self::GoOn, Self::TryAgain, Self::Refused, Self::Reboot, Self::PowerOff]
            .into_iter()
            .find(|outcome| outcome.status().map(i32::from) == status)
            .unwrap_or(Self::Died)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_json_object() {
        let event = Event { at: 1.5, what: What::Ready { payload: "rehearsal".into() } };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"at":1.5,"event":"ready","payload":"rehearsal"}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn outcomes_are_exit_statuses_both_ways() {
        for outcome in [Outcome::GoOn, Outcome::TryAgain, Outcome::Refused, Outcome::Reboot, Outcome::PowerOff] {
            assert_eq!(Outcome::read(outcome.status().map(i32::from)), outcome);
        }
        assert_eq!(Outcome::read(Some(1)), Outcome::Died);
        assert_eq!(Outcome::read(None), Outcome::Died);
    }
}
