//! Whether a medium holds as much as it says: counterfeit cards and sticks say more, and lose or overwrite what comes behind.
//!
//! Marks are written over the whole address range, all of them before the first is read, so that addresses which wrap around
//! overwrite one another. What is on the medium is lost: only for one that is about to be overwritten anyway.

use super::{Buffer, Target, reading, writing};
use crate::DiskError;

/// Bytes of a mark.
const MARK: u64 = 4096;
/// Marks at even distances.
const EVEN: u64 = 64;

/// Probes a medium of a length. `nonce` is another one each time, so that old marks aren't taken for new ones.
///
/// # Errors
/// When a mark doesn't come back, or the medium can't be written or read.
pub fn probe(target: &mut impl Target, length: u64, nonce: u64) -> Result<(), DiskError> {
    let places = places(length);
    for at in &places {
        target.write_at(*at, &mark(*at, nonce)).map_err(writing(*at, MARK))?;
    }
    target.make_durable().map_err(writing(0, length))?;
    let mut buffer = Buffer::new(MARK as usize);
    let mut holds = 0;
    for at in &places {
        target.read_back(*at, &mut buffer).map_err(reading(*at, MARK))?;
        if *buffer != *mark(*at, nonce) {
            return Err(DiskError::Counterfeit { says: length, holds });
        }
        holds = at + MARK;
    }
    for at in &places {
        target.zero(*at, MARK).map_err(writing(*at, MARK))?;
    }
    Ok(())
}

/// Where marks are put: where powers of two end, as that is where the addresses of counterfeits wrap, and evenly between.
fn places(length: u64) -> Vec<u64> {
    let last = (length / MARK).saturating_sub(1) * MARK;
    let powers = (20..63).map(|power| 1u64 << power).take_while(|power| *power <= last);
    let even = (1..EVEN).map(|number| last / EVEN * number / MARK * MARK);
    let mut places: Vec<u64> = powers.chain(even).chain([last]).filter(|at| *at > 0).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn mark(at: u64, nonce: u64) -> Buffer {
    let mut mark = Buffer::new(MARK as usize);
    // What no medium could make up: each word tells its place.
    for (number, word) in mark.chunks_exact_mut(8).enumerate() {
        let value = (at ^ nonce).wrapping_add(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&value.to_le_bytes());
    }
    mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_reach_both_ends_and_every_power_of_two() {
        for length in [8 << 20, (32u64 << 30) - 512, 4 << 40] {
            let places = places(length);
            assert!(places.iter().all(|at| at + MARK <= length && at % MARK == 0));
            assert!(places.last().is_some_and(|last| length - last < 2 * MARK));
            assert!(places.windows(2).all(|two| two[1] - two[0] <= length / 32), "{length}");
            assert!(places.len() < 128);
        }
        assert_ne!(*mark(0, 1), *mark(4096, 1));
        assert_ne!(*mark(0, 1), *mark(0, 2));
    }
}
