//! The one stop flag: signals in, a wait that can be cut short out.
//! First SIGTERM or SIGINT asks for a clean stop, the second ends the process with 1 at once (k3s.md 2.7); while signals
//! are ignored (11.1: a datastore that can't be opened) neither does. Waits are scaled by `REHEARSAL_PACE`, for tests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::Error;

/// Shared by all threads.
#[derive(Clone)]
pub struct Stop(Arc<Shared>);

struct Shared {
    asked: Mutex<bool>,
    changed: Condvar,
    ignored: AtomicBool,
    pace: f64,
}

impl Stop {
    /// `pace` scales every wait; 1.0 is k3s's own.
    pub fn new(pace: f64) -> Self {
        let pace = if pace.is_finite() { pace.clamp(0.0, 100.0) } else { 1.0 };
        Self(Arc::new(Shared {
            asked: Mutex::new(false),
            changed: Condvar::new(),
            ignored: AtomicBool::new(false),
            pace,
        }))
    }

    /// Starts listening.
    pub fn listen(&self) -> Result<(), Error> {
        let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(Error::Signals)?;
        let stop = self.clone();
        let listener = thread::Builder::new().name("signals".into()).stack_size(64 * 1024);
        listener.spawn(move || signals.forever().for_each(|_| stop.receive())).map_err(Error::Spawn)?;
        Ok(())
    }

    fn receive(&self) {
        if self.0.ignored.load(Ordering::Relaxed) {
            return;
        }
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if *asked {
            std::process::exit(1);
        }
        *asked = true;
        self.0.changed.notify_all();
    }

    /// From now on (or no longer) signals have no effect.
    pub fn ignore_signals(&self, ignored: bool) {
        self.0.ignored.store(ignored, Ordering::Relaxed);
    }

    /// True once a stop was asked for.
    pub fn is_asked(&self) -> bool {
        *self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits (scaled); true as soon as a stop is asked for.
    pub fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time.mul_f64(self.0.pace);
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while !*asked {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return false };
            asked = self.0.changed.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits for nothing but a stop.
    pub fn wait_for_ever(&self) {
        while !self.wait(Duration::from_secs(3600)) {}
    }

    /// Sleeps (scaled) whether a stop was asked for or not.
    pub fn sleep(&self, time: Duration) {
        thread::sleep(time.mul_f64(self.0.pace));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_a_stop_is_asked_for() {
        let stop = Stop::new(1.0);
        assert!(!stop.wait(Duration::from_millis(1)));
        stop.ignore_signals(true);
        stop.receive();
        assert!(!stop.is_asked());
        stop.ignore_signals(false);
        stop.receive();
        assert!(stop.wait(Duration::from_secs(60)));
    }
}
