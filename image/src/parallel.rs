//! Work on all processors whose results come back in order: what is written never depends on how many there were.
//!
//! Only a window of results is held at a time, so that memory doesn't grow with the amount of work. Must not be used
//! for work that waits for other work.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, PoisonError};

/// How many threads work at a time: as many as this process may use processors.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Results that a thread may be ahead of the one that takes them.
const AHEAD: usize = 8;

struct State<R, E> {
    claimed: usize,
    taken: usize,
    done: BTreeMap<usize, Result<R, E>>,
    stopped: bool,
}

/// Does `work` on each item on several threads, each with a state of its own that `prepare` makes, and gives the
/// results to `take` in the order of the items.
///
/// # Errors
/// The first error by the order of the items; what comes after it isn't taken.
pub fn ordered<T: Sync, S, R: Send, E: Send>(
    threads: usize,
    items: &[T],
    prepare: impl Fn() -> Result<S, E> + Sync,
    work: impl Fn(&mut S, &T) -> Result<R, E> + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads.clamp(1, items.len().max(1));
    let window = threads * AHEAD;
    let shared = Mutex::new(State { claimed: 0, taken: 0, done: BTreeMap::new(), stopped: false });
    let (result_is_there, room_is_there) = (Condvar::new(), Condvar::new());
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let claim = || {
        let mut state = lock();
        loop {
            if state.stopped || state.claimed == items.len() {
                return None;
            }
            if state.claimed < state.taken + window {
                state.claimed += 1;
                return Some(state.claimed - 1);
            }
            state = room_is_there.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    };
    let put = |number, result| {
        lock().done.insert(number, result);
        result_is_there.notify_one();
    };
    let one_thread = || {
        let mut own = None;
        while let Some(number) = claim() {
            let ready = if own.is_none() { prepare().map(|made| own = Some(made)) } else { Ok(()) };
            let result = match (ready, own.as_mut()) {
                (Ok(()), Some(own)) => work(own, &items[number]),
                (Err(error), _) => Err(error),
                (Ok(()), None) => return,
            };
            put(number, result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(one_thread);
        }
        for number in 0..items.len() {
            let mut state = lock();
            let result = loop {
                match state.done.remove(&number) {
                    Some(result) => break result,
                    None => state = result_is_there.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            state.taken += 1;
            drop(state);
            room_is_there.notify_all();
            if let Err(error) = result.and_then(&mut take) {
                lock().stopped = true;
                room_is_there.notify_all();
                return Err(error);
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order_and_are_never_many() {
        let items: Vec<usize> = (0..500).collect();
        for threads in [1, 2, 7] {
            let (ahead, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let mut taken = Vec::new();
            let work = |_: &mut (), item: &usize| {
                most.fetch_max(ahead.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                if item.is_multiple_of(7) {
                    std::thread::yield_now();
                }
                Ok::<_, ()>(*item)
            };
            let take = |item| {
                ahead.fetch_sub(1, Ordering::SeqCst);
                taken.push(item);
                Ok(())
            };
            ordered(threads, &items, || Ok(()), work, take).unwrap();
            assert_eq!(taken, items);
            assert!(most.into_inner() <= threads * AHEAD + 1);
        }
    }

    #[test]
    fn the_first_error_by_order_ends_it() {
        let items: Vec<usize> = (0..100).collect();
        let mut taken = 0;
        let work = |_: &mut (), item: &usize| if item % 30 == 29 { Err(*item) } else { Ok(()) };
        let result = ordered(
            3,
            &items,
            || Ok(()),
            work,
            |()| {
                taken += 1;
                Ok(())
            },
        );
        assert_eq!((result, taken), (Err(29), 29));
        assert_eq!(ordered(3, &[0; 0], || Ok(()), |_: &mut (), _| Ok::<_, ()>(()), |()| Ok(())), Ok(()));
    }
}
