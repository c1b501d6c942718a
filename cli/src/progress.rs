//! How a build's events are shown: bars on a terminal, plain lines in a pipe, JSON lines with `--json`.

use bakelite_image::progress::{BuildEvent, Listen};
use bakelite_spec::causes::words;
use bakelite_spec::finding::Finding;
use bakelite_spec::quantity::Size;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The one place that prints.
#[derive(Debug)]
pub struct Screen {
    /// Whether a program reads.
    pub json: bool,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    started: BTreeMap<&'static str, Instant>,
    downloaded: BTreeMap<String, u64>,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        let bar = (!json && stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} {bytes}/{total_bytes} {wide_bar}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { json, bar, state: Mutex::default() }
    }

    /// A line of result, on standard output.
    pub fn line(&self, text: &str) {
        if self.json {
            self.value(&serde_json::json!({ "event": "result", "text": text }));
        } else {
            println!("{text}");
        }
    }

    /// A line that not everybody needs, on standard error.
    pub fn detail(&self, text: &str) {
        if self.json {
            self.value(&serde_json::json!({ "event": "detail", "text": text }));
        } else {
            self.above(&format!("  {text}"));
        }
    }

    /// A value for programs.
    pub fn value(&self, value: &serde_json::Value) {
        println!("{value}");
    }

    /// All that is wrong with a configuration.
    pub fn findings(&self, findings: &[Finding]) {
        self.finish();
        if self.json {
            self.value(&serde_json::json!({ "event": "findings", "findings": findings }));
        } else {
            findings.iter().for_each(|finding| eprintln!("{finding}"));
        }
    }

    /// Something that couldn't be had.
    pub fn problem(&self, text: &str) {
        self.finish();
        if self.json {
            self.value(&serde_json::json!({ "event": "error", "text": text }));
        } else {
            eprintln!("error: {text}");
        }
    }

    /// An error with its causes.
    pub fn error(&self, error: &dyn Error) {
        self.problem(&words(error));
    }

    /// Takes the bar off the screen.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn above(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Listen for Screen {
    fn event(&self, event: &BuildEvent) {
        if self.json {
            self.value(&serde_json::json!(event));
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            BuildEvent::PhaseStarted { phase, bytes, .. } => {
                state.started.insert(phase, Instant::now());
                state.downloaded.clear();
                if let Some(bar) = &self.bar {
                    bar.reset();
                    bar.set_length(bytes.unwrap_or(0));
                    bar.set_message(*phase);
                }
            }
            BuildEvent::PhaseFinished { phase, items, bytes } => {
                let seconds = state.started.get(phase).map_or(0.0, |started| started.elapsed().as_secs_f64());
                drop(state);
                self.above(&format!("{phase:<10} {seconds:6.1} s  {items:>6} items  {:>10}", Size(*bytes).human()));
            }
            BuildEvent::Download { name, done, .. } => {
                state.downloaded.insert(name.clone(), *done);
                if let Some(bar) = &self.bar {
                    bar.set_position(state.downloaded.values().sum());
                }
            }
            BuildEvent::Note { text } => {
                drop(state);
                self.above(text);
            }
        }
    }
}
