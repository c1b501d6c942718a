//! The display of several media at once: a bar for each on a terminal, lines in a pipe, JSON lines with `--json`.

use crate::progress::Screen;
use bakelite_flash::flash::{FlashEvent, Listen, Phase};
use bakelite_spec::quantity::Size;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a program hears of progress, and how often a line tells of it.
const OFTEN: Duration = Duration::from_millis(200);
const SELDOM: Duration = Duration::from_secs(5);

/// The display.
pub struct Media<'a> {
    screen: &'a Screen,
    bars: Option<MultiProgress>,
    states: Mutex<BTreeMap<String, State>>,
}

struct State {
    phase: &'static str,
    bytes: u64,
    begun: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl<'a> Media<'a> {
    pub fn new(screen: &'a Screen) -> Self {
        let bars = (!screen.json && stderr().is_terminal()).then(MultiProgress::new);
        Self { screen, bars, states: Mutex::default() }
    }

    /// Takes the bars off the screen.
    pub fn finish(&self) {
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
        }
    }

    /// A line above the bars.
    pub fn above(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    fn bar(&self, target: &str) -> Option<ProgressBar> {
        let template = "{prefix} {msg:<9} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bars.as_ref().map(|bars| bars.add(ProgressBar::new(0).with_style(style).with_prefix(target.to_string())))
    }
}

impl Listen for Media<'_> {
    fn event(&self, event: &FlashEvent) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match event {
            FlashEvent::Phase { target, phase, bytes } => {
                let bar = states.remove(target).and_then(|state| state.bar).or_else(|| self.bar(target));
                if let Some(bar) = &bar {
                    bar.reset();
                    bar.set_length(*bytes);
                    bar.set_message(word(*phase));
                }
                if self.screen.json {
                    self.screen.value(&json!(event));
                } else if self.bars.is_none() {
                    eprintln!("{target}: {}{}", word(*phase), some(*bytes));
                }
                let state = State { phase: word(*phase), bytes: *bytes, begun: now, told: now, bar };
                states.insert(target.clone(), state);
            }
            FlashEvent::Progress { target, done } => {
                let Some(state) = states.get_mut(target) else { return };
                if let Some(bar) = &state.bar {
                    bar.set_position(*done);
                    return;
                }
                let pause = if self.screen.json { OFTEN } else { SELDOM };
                if now - state.told < pause {
                    return;
                }
                state.told = now;
                if self.screen.json {
                    self.screen.value(&json!(event));
                } else {
                    eprintln!("{target}: {}", state.line(*done, now));
                }
            }
            FlashEvent::LetGo { target } => {
                let text = "is slower than the others and goes on by itself";
                match (&self.bars, self.screen.json) {
                    (_, true) => self.screen.value(&json!(event)),
                    (Some(bars), _) => drop(bars.println(format!("{target}: {text}"))),
                    (None, _) => eprintln!("{target}: {text}"),
                }
            }
        }
    }
}

impl State {
    fn line(&self, done: u64, now: Instant) -> String {
        let seconds = (now - self.begun).as_secs_f64().max(0.001);
        let speed = done as f64 / seconds;
        let left = self.bytes.saturating_sub(done) as f64 / speed.max(1.0);
        let (done, speed) = (Size(done).human(), Size(speed as u64).human());
        format!("{} {done} of {}, {speed}/s, {left:.0} s left", self.phase, Size(self.bytes).human())
    }
}

fn some(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(" {}", Size(bytes).human()) }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Probing => "probing",
        Phase::Writing => "writing",
        Phase::Clearing => "clearing",
        Phase::Verifying => "reading",
        Phase::Finishing => "finishing",
    }
}
