//! One stream of pieces for several media, each at its own speed, with a bounded number of pieces in memory.
//!
//! The stream waits for the slowest, but not for long: who holds the others up for more than [`PATIENCE`] in all is let go, and
//! goes on from its place with a stream of its own. Who fails simply leaves. So one bad card costs the others two seconds.

use bakelite_disk::press::Piece;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pieces that may wait for a medium.
const WAITING: usize = 8;
/// How long one may hold up the others in all.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How the stream ended.
#[derive(Clone, Debug)]
pub enum End {
    /// All pieces were given; these ranges have to be zeros.
    Good(Arc<Vec<(u64, u64)>>),
    /// The image couldn't be read to its end.
    Broken(Arc<str>),
}

/// What a medium gets.
#[derive(Debug)]
pub enum Given {
    /// The next piece.
    Piece(Arc<Piece>),
    /// There are no more.
    End(End),
    /// It was too slow: it has to read the rest by itself.
    LetGo,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Arc<Piece>>,
    held_up: Duration,
    has_left: bool,
    is_let_go: bool,
}

impl Lane {
    fn is_live(&self) -> bool {
        !self.has_left && !self.is_let_go
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING
    }
}

#[derive(Debug)]
struct State {
    lanes: Vec<Lane>,
    end: Option<End>,
}

/// The stream.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    changed: Condvar,
    patience: Duration,
}

impl Hub {
    /// A stream for so many media.
    pub fn new(lanes: usize, patience: Duration) -> Self {
        let lanes = (0..lanes).map(|_| Lane::default()).collect();
        Self { state: Mutex::new(State { lanes, end: None }), changed: Condvar::new(), patience }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a piece to all that are still with it; whether there is one.
    pub fn push(&self, piece: Piece) -> bool {
        let piece = Arc::new(piece);
        let mut state = self.state();
        loop {
            let live = || state.lanes.iter().filter(|lane| lane.is_live());
            if live().next().is_none() {
                return false;
            }
            if !live().any(Lane::is_full) {
                let lanes = state.lanes.iter_mut().filter(|lane| lane.is_live());
                lanes.for_each(|lane| lane.waiting.push_back(piece.clone()));
                self.changed.notify_all();
                return true;
            }
            let is_awaited = live().any(|lane| lane.waiting.is_empty());
            let begun = Instant::now();
            let left = self.patience / 4;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            if is_awaited {
                let waited = begun.elapsed();
                for lane in state.lanes.iter_mut().filter(|lane| lane.is_live() && lane.is_full()) {
                    lane.held_up += waited;
                    lane.is_let_go = lane.held_up > self.patience;
                }
                self.changed.notify_all();
            }
        }
    }

    /// Ends the stream.
    pub fn end(&self, end: End) {
        self.state().end = Some(end);
        self.changed.notify_all();
    }

    /// What a medium gets next.
    pub fn pull(&self, lane: usize) -> Given {
        let mut state = self.state();
        loop {
            let own = &mut state.lanes[lane];
            if let Some(piece) = own.waiting.pop_front() {
                self.changed.notify_all();
                return Given::Piece(piece);
            }
            if own.is_let_go {
                return Given::LetGo;
            }
            if let Some(end) = &state.end {
                return Given::End(end.clone());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A medium takes no more.
    pub fn leave(&self, lane: usize) {
        let mut state = self.state();
        state.lanes[lane].has_left = true;
        state.lanes[lane].waiting.clear();
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_disk::press::Buffer;
    use std::sync::Barrier;

    fn piece(number: u64) -> Piece {
        Piece::new(number, Buffer::new(1))
    }

    /// Takes pieces until the end; those it got, and whether it was let go. Before each piece it does something.
    fn take(hub: &Hub, lane: usize, mut before: impl FnMut(usize)) -> (Vec<u64>, bool) {
        let mut got = Vec::new();
        loop {
            before(got.len());
            match hub.pull(lane) {
                Given::Piece(piece) => got.push(piece.at),
                Given::End(_) => return (got, false),
                Given::LetGo => return (got, true),
            }
        }
    }

    #[test]
    fn one_that_stands_still_is_let_go_a_failing_one_leaves_and_the_others_get_everything() {
        let (hub, quick_are_done) = (&Hub::new(4, Duration::from_millis(100)), &Barrier::new(3));
        let all: Vec<u64> = (0..100).collect();
        std::thread::scope(|threads| {
            let quick = [0, 3].map(|lane| {
                threads.spawn(move || {
                    let took = take(hub, lane, |_| ());
                    quick_are_done.wait();
                    took
                })
            });
            // It goes on only when the others have everything, which they get only without it.
            let still = threads.spawn(|| {
                take(hub, 1, |got| {
                    if got == 1 {
                        quick_are_done.wait();
                    }
                })
            });
            let failing = threads.spawn(|| {
                take(hub, 2, |got| {
                    if got == 5 {
                        hub.leave(2);
                    }
                })
            });
            assert!(all.iter().all(|number| hub.push(piece(*number))));
            hub.end(End::Good(Arc::default()));
            for lane in quick {
                assert_eq!(lane.join().unwrap(), (all.clone(), false));
            }
            assert_eq!(still.join().unwrap(), (all[..=WAITING].to_vec(), true));
            assert_eq!(failing.join().unwrap(), (all[..5].to_vec(), false));
        });
    }

    #[test]
    fn nobody_is_let_go_where_all_are_slow_and_without_media_it_ends() {
        let (hub, abreast) = (&Hub::new(2, Duration::from_millis(50)), &Barrier::new(2));
        std::thread::scope(|threads| {
            let lanes = [0, 1].map(|lane| {
                threads.spawn(move || {
                    let mut got = 0;
                    while got < 40 {
                        abreast.wait();
                        std::thread::sleep(Duration::from_millis(10));
                        assert!(matches!(hub.pull(lane), Given::Piece(_)), "let go after {got}");
                        got += 1;
                    }
                    hub.leave(lane);
                })
            });
            while hub.push(piece(0)) {}
            lanes.into_iter().for_each(|lane| lane.join().unwrap());
        });
    }
}
