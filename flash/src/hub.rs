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

    fn piece(number: u64) -> Piece {
        Piece::new(number, Buffer::new(1))
    }

    /// Takes pieces until the end, some time apart; those it got, and whether it was let go.
    fn take(hub: &Hub, lane: usize, pause: Duration, leaves_after: usize) -> (Vec<u64>, bool) {
        let mut got = Vec::new();
        loop {
            match hub.pull(lane) {
                Given::Piece(piece) => got.push(piece.at),
                Given::End(_) => return (got, false),
                Given::LetGo => return (got, true),
            }
            if got.len() == leaves_after {
                hub.leave(lane);
                return (got, false);
            }
            std::thread::sleep(pause);
        }
    }

    #[test]
    fn a_slow_one_is_let_go_a_failing_one_leaves_and_the_others_get_everything() {
        let hub = Hub::new(4, Duration::from_millis(100));
        let quick = Duration::ZERO;
        let begun = Instant::now();
        let took = std::thread::scope(|threads| {
            let lanes = [(quick, usize::MAX), (Duration::from_millis(60), usize::MAX), (quick, 5), (quick, usize::MAX)];
            let lanes: Vec<_> = (0..).zip(lanes).collect();
            let hub = &hub;
            let threads: Vec<_> = lanes
                .into_iter()
                .map(|(lane, (pause, leaves))| threads.spawn(move || take(hub, lane, pause, leaves)))
                .collect();
            assert!((0..100).all(|number| hub.push(piece(number))));
            hub.end(End::Good(Arc::default()));
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for lane in [0, 3] {
            assert_eq!(took[lane], ((0..100).collect(), false));
        }
        let (slow, was_let_go) = &took[1];
        assert!(*was_let_go && slow.len() < 50 && slow.iter().copied().eq(0..slow.len() as u64), "{slow:?}");
        assert_eq!(took[2].0, [0, 1, 2, 3, 4]);
        assert!(begun.elapsed() < Duration::from_secs(3), "the slow one takes six alone");
    }

    #[test]
    fn nobody_is_let_go_where_all_are_slow_and_without_media_it_ends() {
        let hub = Hub::new(2, Duration::from_millis(50));
        std::thread::scope(|threads| {
            let lanes = [0, 1].map(|lane| {
                let hub = &hub;
                threads.spawn(move || take(hub, lane, Duration::from_millis(10), 40))
            });
            while hub.push(piece(0)) {}
            assert!(lanes.into_iter().all(|lane| lane.join().unwrap().0.len() == 40));
        });
    }
}
