//! The errand: what is asked for at `update.from`, beside the loop, as fetching a bundle may take hours.
//!
//! One at a time, in a thread that only waits for a program of its own: that one's memory goes with it, and it meets the loop's
//! backups as a person's `bakelite update` does, by the locks between processes.

use bakelite_spec::fault::Fault;
use std::thread::JoinHandle;

/// What is wrong with what was found; nothing where nobody has answered.
pub type Answer = Option<Vec<Fault>>;

/// An errand that may be under way.
#[derive(Debug, Default)]
pub struct Errand(Option<JoinHandle<Answer>>);

impl Errand {
    /// Sends for an answer, and never waits.
    pub fn send(&mut self, ask: impl FnOnce() -> Answer + Send + 'static) {
        match std::thread::Builder::new().name("errand".into()).spawn(ask) {
            Ok(handle) => self.0 = Some(handle),
            Err(error) => log::warn!("no thread to ask at `update.from`: {error}"),
        }
    }

    /// Whether it is under way.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The answer, once, when it has come.
    pub fn take(&mut self) -> Answer {
        self.0.take_if(|handle| handle.is_finished())?.join().ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::fault::Code;
    use std::sync::mpsc::channel;

    /// Takes what there is until the errand is over.
    fn end(errand: &mut Errand) -> Answer {
        let mut answer = None;
        while errand.is_on() {
            answer = errand.take();
            std::thread::yield_now();
        }
        answer
    }

    #[test]
    fn the_loop_goes_on_until_the_answer_has_come() {
        let (mut errand, (go, wait)) = (Errand::default(), channel::<()>());
        errand.send(move || {
            wait.recv().ok()?;
            Some(vec![Fault::new(Code::UpdateRefused, "it is older")])
        });
        assert!(errand.is_on() && errand.take().is_none() && errand.is_on());
        go.send(()).unwrap();
        assert_eq!(end(&mut errand).map(|faults| faults.len()), Some(1));
        assert_eq!(errand.take(), None, "it is told once");
    }

    #[test]
    fn one_that_comes_to_grief_is_over_and_says_nothing() {
        let mut errand = Errand::default();
        errand.send(|| panic!("grief"));
        assert_eq!(end(&mut errand), None);
        errand.send(|| Some(Vec::new()));
        assert_eq!(end(&mut errand), Some(Vec::new()));
    }
}
