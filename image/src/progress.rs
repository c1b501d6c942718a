//! What a build tells while it works, for the CLI to render as bars, plain lines or JSON lines.
//!
//! Events carry numbers and names, never formatted text (notes apart), and no times: whoever listens has a clock.
//! Must not be used to report failure: that is the returned error.

use serde::Serialize;

/// One thing that happened during a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum BuildEvent {
    /// A phase began.
    PhaseStarted {
        /// Short lower-case name, e.g. "resolve", "download".
        phase: &'static str,
        /// How many items it will handle, where known.
        items: Option<u64>,
        /// How many bytes it will handle, where known.
        bytes: Option<u64>,
    },
    /// A phase ended well.
    PhaseFinished {
        /// The name it started with.
        phase: &'static str,
        /// How many items it handled.
        items: u64,
        /// How many bytes it handled.
        bytes: u64,
    },
    /// A download moved on; at least at its start and its end.
    Download {
        /// What is fetched: a package's or file's name.
        name: String,
        /// Bytes received so far.
        done: u64,
        /// Bytes expected, where known.
        total: Option<u64>,
    },
    /// Something a person should know that is no failure.
    Note {
        /// One sentence.
        text: String,
    },
}

/// Whoever wants to know how a build goes. Called from several threads.
pub trait Listen: Sync {
    /// Takes note of one event; must be quick.
    fn event(&self, event: &BuildEvent);
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Listen for Silent {
    fn event(&self, _event: &BuildEvent) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_tagged_json() {
        let event = BuildEvent::Download { name: "kmod".into(), done: 1, total: Some(2) };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"event":"download","name":"kmod","done":1,"total":2}"#);
    }
}
