//! Backlog: what comes in while the loop stands still because workloads end. It is taken afterwards, in its order.
//!
//! Nothing is lost here, the ends of other units least of all; only callers beyond a few are sent away, with words. Callers
//! that are kept wait for their answer until their wish is granted.

use crate::control;
use crate::pump::Input;

/// Callers that are kept.
const CALLERS: usize = 8;

/// What wasn't taken yet.
#[derive(Debug, Default)]
pub struct Backlog {
    inputs: Vec<Input>,
    /// Nobody will take anything any more.
    closed: bool,
}

impl Backlog {
    /// From now on the machine goes down: callers are told so at once.
    pub fn close(&mut self) {
        self.closed = true;
        self.take().into_iter().for_each(|input| self.turn_away(&input));
    }

    /// Keeps what came in.
    pub fn keep(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            let callers = self.inputs.iter().filter(|input| matches!(input, Input::Caller(_))).count();
            if self.closed || callers >= CALLERS && matches!(input, Input::Caller(_)) {
                self.turn_away(&input);
            } else {
                self.inputs.push(input);
            }
        }
    }

    /// Gives out what was kept.
    pub fn take(&mut self) -> Vec<Input> {
        std::mem::take(&mut self.inputs)
    }

    fn turn_away(&self, input: &Input) {
        let Input::Caller(caller) = input else { return };
        // To hang up on words that weren't read would take the answer away.
        let _ = control::read(caller);
        let why =
            if self.closed { "the machine goes down" } else { "workloads are being stopped, and others wait too" };
        control::answer(caller, &format!("busy, {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::OwnedFd;

    fn caller(words: &str) -> (OwnedFd, Input) {
        let flags = SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        rustix::io::write(&one, words.as_bytes()).unwrap();
        (one, Input::Caller(other))
    }

    fn heard(caller: &OwnedFd) -> String {
        let mut bytes = [0u8; 256];
        let length = rustix::io::read(caller, &mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..length]).into()
    }

    #[test]
    fn what_came_in_is_taken_in_its_order_and_a_caller_keeps_its_words() {
        let mut backlog = Backlog::default();
        let (asks, input) = caller("refit");
        backlog.keep(vec![Input::Ended(7, Some(0), None), input]);
        backlog.keep(vec![Input::BlockDevice]);
        assert_eq!(heard(&asks), "", "no answer before the wish is granted");
        let taken = backlog.take();
        let [Input::Ended(7, Some(0), None), Input::Caller(called), Input::BlockDevice] = &taken[..] else {
            panic!("{taken:?}")
        };
        let wish = control::read(called).unwrap();
        assert_eq!(wish, control::Wish::Units(crate::supervise::Ask::Refit));
        assert!(backlog.take().is_empty());
    }

    #[test]
    fn callers_beyond_a_few_and_all_while_the_machine_goes_down_are_told_so() {
        let mut backlog = Backlog::default();
        let (asking, inputs): (Vec<_>, Vec<_>) = (0..=CALLERS).map(|_| caller("try")).unzip();
        backlog.keep(inputs);
        let answers: Vec<String> = asking.iter().map(heard).collect();
        assert!(answers[..CALLERS].iter().all(String::is_empty), "{answers:?}");
        assert!(answers[CALLERS].starts_with("busy, workloads"), "{answers:?}");
        backlog.keep(vec![Input::Ended(7, None, Some(9))]);
        backlog.close();
        assert!(asking[..CALLERS].iter().all(|asks| heard(asks) == "busy, the machine goes down"));
        let (late, input) = caller("start k3s");
        backlog.keep(vec![input, Input::Network]);
        assert_eq!((heard(&late).as_str(), backlog.take().len()), ("busy, the machine goes down", 0));
    }
}
