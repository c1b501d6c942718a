use super::*;
use bakelite_disk::born::Born;
use bakelite_disk::press::testing::{Fault, Faulty};
use bakelite_spec::layout::{Partition, STATE_MINIMUM, Scheme};
use bakelite_sys::sum::pour;
use std::io::{Cursor, Seek, SeekFrom};

const MIB: u64 = 1 << 20;
const END: u64 = 12 * MIB;

/// An image's, but for its sizes.
fn layout() -> Layout {
    let places = [(Role::BiosBoot, 1, 1), (Role::Boot, 2, 1), (Role::SystemA, 3, 4), (Role::SystemB, 7, 4)];
    let part = |(role, start, length)| Partition { role, start: start * MIB, length: length * MIB };
    Layout { scheme: Scheme::Gpt, partitions: places.map(part).to_vec(), length: END }
}

fn system() -> Vec<u8> {
    (0..700_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn put(medium: &mut impl Target, from: &[u8]) -> Result<(), PressError> {
    let (system, sha256) = pour(&system()[..], io::sink()).unwrap();
    let mut number = 0;
    let mut fresh = || {
        number += 1;
        Guid::from_random([number; 16])
    };
    let length = medium.length().unwrap();
    let wanted = Wanted { layout: &layout(), length, system, sha256: &sha256 };
    let acts = Acts { fresh: &mut fresh, told: &mut |_| (), before_last: &mut |_| Ok(()) };
    press(medium, &wanted, from, acts)
}

fn table(medium: &mut impl Target) -> Result<Table, DiskError> {
    let sectors = medium.length().unwrap() / SECTOR;
    Table::read(medium, sectors)
}

#[test]
fn a_used_disk_becomes_a_machines_medium_that_forgets_its_earlier_life() {
    let folder = tempfile::tempdir().unwrap();
    let length = END + STATE_MINIMUM.0 + 2 * MIB;
    let mut medium = OpenMedium::file(&folder.path().join("disk"), length).unwrap();
    for at in 0..END / MIB {
        medium.write_at(at * MIB, &[0xa5; MIB as usize]).unwrap();
    }
    begun::set(&mut medium).unwrap();
    let state = (11 * MIB, length - MIB - 11 * MIB);
    Born { id: Guid::from_random([9; 16]) }.write(&mut medium, state.0, state.1).unwrap();
    assert!(Born::read(&mut medium, state.0, state.1).unwrap().is_some());
    put(&mut medium, &system()).unwrap();
    let found = table(&mut medium).unwrap();
    assert!(!found.is_unstamped() && !found.needs_repair && !begun::is_marked(&mut medium).unwrap());
    assert_eq!((found.first_free() * SECTOR, (found.last_usable() + 1) * SECTOR), (state.0, state.0 + state.1));
    let footer = Footer::read(&mut medium, 3 * MIB, 4 * MIB).unwrap();
    let mut bytes = vec![0; footer.length as usize];
    medium.seek(SeekFrom::Start(3 * MIB)).and_then(|_| medium.read_exact(&mut bytes)).unwrap();
    assert!(bytes == system());
    medium.seek(SeekFrom::Start(7 * MIB)).and_then(|_| medium.read_exact(&mut bytes[..4096])).unwrap();
    assert!(bytes[..4096] == [0; 4096], "nothing is taken for a system there");
    assert!(Footer::read(&mut medium, 7 * MIB, 4 * MIB).is_err());
    assert_eq!(Born::read(&mut medium, state.0, state.1).unwrap(), None, "the state of an earlier life is gone");
}

fn marked(fault: Fault) -> Faulty {
    let mut medium = Faulty::new(END + MIB, 0xa5, Fault::None);
    begun::set(&mut medium.inner).unwrap();
    Faulty::of(medium.inner, fault)
}

#[test]
fn what_the_stick_reads_wrongly_or_the_disk_forgets_is_never_started() {
    let mut changed = system();
    changed[1_000_000] ^= 1;
    let (bad, short) = (&changed[..], &changed[..2_000_000]);
    let whole = system();
    for (fault, from) in [
        (Fault::None, bad),
        (Fault::None, short),
        (Fault::Flips(4 * MIB), &whole[..]),
        (Fault::Flips(SECTOR + 60), &whole[..]),
        (Fault::Vanishes(2 * MIB), &whole[..]),
    ] {
        let mut medium = marked(fault);
        let error = put(&mut medium, from).unwrap_err();
        assert_eq!(matches!(error, PressError::Changed), fault == Fault::None, "{fault:?}");
        assert!(begun::is_marked(&mut medium.inner).unwrap() && table(&mut medium.inner).is_err(), "{fault:?}");
    }
}

/// Remembers what it was after each time that it was made durable.
struct Cut {
    inner: Cursor<Vec<u8>>,
    moments: Vec<Vec<u8>>,
}

impl Read for Cut {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl io::Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Cut {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl bakelite_disk::Medium for Cut {
    fn make_durable(&mut self) -> io::Result<()> {
        self.moments.push(self.inner.get_ref().clone());
        Ok(())
    }
}

impl Target for Cut {
    fn length(&mut self) -> io::Result<u64> {
        self.inner.length()
    }

    fn read_back(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_back(at, bytes)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        Target::write_at(&mut self.inner, at, bytes)
    }

    fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
        self.inner.zero(at, length)
    }

    fn is_hole(&mut self, _: u64, _: u64) -> bool {
        false
    }
}

#[test]
fn cut_at_any_moment_it_is_marked_or_all_but_its_table_is_there() {
    let mut medium = Cut { inner: marked(Fault::None).inner, moments: Vec::new() };
    put(&mut medium, &system()).unwrap();
    let mut unmarked = 0;
    for bytes in &medium.moments {
        let mut left = Cursor::new(bytes.clone());
        if begun::is_marked(&mut left).unwrap() {
            assert!(table(&mut left).is_err(), "what is marked has no table");
            continue;
        }
        unmarked += 1;
        let footer = Footer::read(&mut left, 3 * MIB, 4 * MIB).unwrap();
        let there = &bytes[3 * MIB as usize..][..footer.length as usize];
        assert!(there == system());
        let mut again = left.clone();
        begun::set(&mut again).unwrap();
        put(&mut again, &system()).unwrap();
        assert!(table(&mut again).is_ok());
    }
    assert!(unmarked >= 3 && medium.moments.len() > unmarked, "{unmarked} of {}", medium.moments.len());
}
