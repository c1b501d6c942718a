//! A medium comes out as the image wants it, or with an error that names what is wrong; and boots only in the first case.

use super::testing::{Fault, Faulty};
use super::*;
use crate::Guid;
use crate::bmap::Map;
use crate::born::Born;
use crate::table::{Entry, Table};
use bakelite_spec::layout::{Role, SECTOR, Scheme, UNSTAMPED_DISK};
use proptest::prelude::*;
use std::io::Cursor;

const MIB: u64 = 1 << 20;

fn image(length: u64) -> Vec<u8> {
    let mut random = 7u32;
    let mut bytes = vec![0; length as usize];
    for word in bytes.chunks_exact_mut(4) {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        word.copy_from_slice(&random.to_le_bytes());
    }
    bytes
}

/// Presses an image whose map has some ranges; what is between them has to be zeros.
fn press(target: &mut impl Target, image: &[u8], map: &Map) -> Result<u64, DiskError> {
    let mut press = Press::begin(target, image.len() as u64)?;
    press.probe(99)?;
    for range in &map.ranges {
        let mut at = range.start;
        while at < range.end() {
            let size = (range.end() - at).min(MIB - at % MIB);
            let mut bytes = Buffer::new(size as usize);
            bytes.copy_from_slice(&image[at as usize..(at + size) as usize]);
            press.write(&Piece::new(at, bytes))?;
            at += size;
        }
    }
    let mut cleared = 0;
    for (start, length) in map.holes() {
        cleared += press.clear(start, length)?;
    }
    press.verify(&mut |_| ())?;
    press.publish()?;
    Ok(cleared)
}

#[test]
fn an_image_comes_onto_a_used_medium_as_it_is_and_the_rest_is_left() {
    let mut image = image(6 * MIB + 512);
    image[3 * MIB as usize..5 * MIB as usize].fill(0);
    let mut map = Map::whole(image.len() as u64);
    map.ranges[0].length = 3 * MIB;
    map.ranges.push(crate::bmap::Range { start: 5 * MIB, length: MIB + 512, sum: None });
    let mut medium = Faulty::new(16 * MIB, 0xa5, Fault::None);
    assert_eq!(press(&mut medium, &image, &map).unwrap(), 2 * MIB, "what was there under the hole is cleared");
    assert!(medium.inner.get_ref()[..image.len()] == image[..]);
    let mut blank = Faulty::new(16 * MIB, 0, Fault::None);
    assert_eq!(press(&mut blank, &image, &map).unwrap(), 0, "zeros aren't written again");
    assert!(blank.inner.get_ref()[..image.len()] == image[..]);
}

#[test]
fn what_media_do_is_found_and_such_a_medium_does_not_boot() {
    let image = image(6 * MIB);
    let map = Map::whole(6 * MIB);
    type Expected = fn(&DiskError) -> bool;
    let cases: [(Fault, Expected); 6] = [
        (Fault::Wraps(4 * MIB), |error| matches!(error, DiskError::Counterfeit { .. })),
        (Fault::Drops(5 * MIB), |error| matches!(error, DiskError::Counterfeit { holds, .. } if *holds <= 6 * MIB)),
        (Fault::Drops(8 * MIB), |error| matches!(error, DiskError::Counterfeit { .. })),
        (Fault::Short(4 * MIB + 130_000), |error| matches!(error, DiskError::ReadBack { at, .. } if *at == 4 * MIB)),
        (Fault::Flips(3 * MIB + 130_000), |error| matches!(error, DiskError::ReadBack { at, .. } if *at == 3 * MIB)),
        (
            Fault::Vanishes(4 * MIB),
            |error| matches!(error, DiskError::Write { source, .. } if source.raw_os_error() == Some(testing::NO_SUCH_DEVICE)),
        ),
    ];
    for (fault, expected) in cases {
        let mut medium = Faulty::new(16 * MIB, 0xa5, fault);
        let error = press(&mut medium, &image, &map).unwrap_err();
        assert!(expected(&error), "{fault:?}: {error}");
        // A counterfeit may have a mark there.
        let first = &medium.inner.get_ref()[..512];
        assert!(first != &image[..512] && first != [0xa5; 512], "{fault:?} boots");
    }
}

#[test]
fn the_first_mib_lies_too_and_that_is_found() {
    let error = press(&mut Faulty::new(16 * MIB, 0xa5, Fault::Flips(700)), &image(6 * MIB), &Map::whole(6 * MIB));
    assert!(matches!(error, Err(DiskError::ReadBack { at: 0, .. })));
}

#[test]
fn a_medium_that_is_too_small_is_refused_before_a_byte_is_written() {
    let mut medium = Faulty::new(6 * MIB - 512, 0xa5, Fault::None);
    let error = press(&mut medium, &image(6 * MIB), &Map::whole(6 * MIB)).unwrap_err();
    assert!(matches!(error, DiskError::MediumTooSmall { .. }));
    assert!(medium.inner.get_ref().iter().all(|byte| *byte == 0xa5) && medium.written == 0);
}

fn fresh() -> impl FnMut() -> Guid {
    let mut number = 0;
    move || {
        number += 1;
        Guid::from_random([number; 16])
    }
}

fn ours(sectors: u64) -> Vec<u8> {
    let mut medium = Cursor::new(vec![0; (sectors * SECTOR) as usize]);
    let mut table = Table::new(Scheme::Gpt, UNSTAMPED_DISK.parse().unwrap(), sectors);
    let entry = |role: Role, first, last| Entry {
        type_guid: role.type_guid().parse().unwrap(),
        guid: role.unstamped_guid().parse().unwrap(),
        first,
        last,
        attributes: 0,
        name: role.label().into(),
    };
    table.entries.insert(2, entry(Role::Boot, 2048, 4095));
    table.entries.insert(3, entry(Role::SystemA, 4096, 8191));
    table.write(&mut medium).unwrap();
    medium.into_inner()
}

#[test]
fn a_fresh_image_of_ours_is_stamped_for_its_medium_and_forgets_the_mediums_earlier_life() {
    let image = ours(10_240);
    let mut medium = Cursor::new(vec![0u8; 400 * MIB as usize]);
    let place = (4 * MIB, 395 * MIB);
    Born { id: Guid([5; 16]) }.write(&mut medium, place.0, place.1).unwrap();
    let mut press = Press::begin(&mut medium, image.len() as u64).unwrap();
    let mut bytes = Buffer::new(MIB as usize);
    bytes.copy_from_slice(&image[..MIB as usize]);
    press.write(&Piece::new(0, bytes)).unwrap();
    let length = press.length();
    let mut head = press.head.clone();
    let stamped = stamp(&mut head, image.len() as u64, length, &mut fresh()).unwrap().unwrap();
    assert_eq!((stamped.state, stamped.end), (Some(place), 4 * MIB));
    press.take_stamped(head, stamped.elsewhere.clone());
    press.forget_file_system(place.0, place.1).unwrap();
    press.verify(&mut |_| ()).unwrap();
    press.publish().unwrap();
    let table = Table::read(&mut medium, 400 * MIB / SECTOR).unwrap();
    assert!(!table.needs_repair && table.disk == stamped.disk);
    let guids: std::collections::BTreeSet<Guid> = table.entries.values().map(|entry| entry.guid).collect();
    assert_eq!(guids.len(), 2);
    assert_eq!(Born::read(&mut medium, place.0, place.1).unwrap(), None);
}

#[test]
fn an_image_of_others_or_one_that_was_booted_keeps_its_numbers() {
    let mut booted = Cursor::new(ours(10_240));
    let table = Table { disk: Guid([9; 16]), ..Table::read(&mut booted, 10_240).unwrap() };
    table.write(&mut booted).unwrap();
    for mut head in [booted.into_inner()[..MIB as usize].to_vec(), vec![0; MIB as usize], vec![0; 512], Vec::new()] {
        let before = head.clone();
        assert_eq!(stamp(&mut head, 10_240 * SECTOR, 400 * MIB, &mut fresh()).unwrap(), None);
        assert!(head == before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cut_anywhere_it_does_not_boot_or_is_whole(cut in 0u64..14 * MIB) {
        let image = image(6 * MIB);
        let mut medium = Faulty::new(8 * MIB, 0xa5, Fault::Vanishes(cut));
        let done = press(&mut medium, &image, &Map::whole(6 * MIB)).is_ok();
        let bytes = medium.inner.get_ref();
        let boots = bytes[..512] != vec![0xa5; 512] && !is_zero(&bytes[..512]);
        prop_assert_eq!(boots, done);
        prop_assert!(!done || bytes[..image.len()] == image[..]);
    }
}
