//! Power cuts between each two writes, on media as they are found: a recorder replays every prefix.

use super::*;
use bakelite_disk::ext4::BLOCK;
use bakelite_spec::layout::{Scheme, UNSTAMPED_DISK};
use std::collections::BTreeMap;
use std::io::{self, SeekFrom};

const MIB: u64 = 1 << 20;

/// A medium that is mostly zeros and remembers each write.
#[derive(Clone, Default)]
struct Card {
    bytes: BTreeMap<u64, [u8; 512]>,
    length: u64,
    at: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl Card {
    fn sector(&self, number: u64) -> [u8; 512] {
        self.bytes.get(&number).copied().unwrap_or([0; 512])
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        assert!(at.is_multiple_of(512) && bytes.len().is_multiple_of(512), "media are written by sectors here");
        for (number, sector) in (at / 512..).zip(bytes.as_chunks::<512>().0) {
            self.bytes.insert(number, *sector);
        }
    }
}

impl Read for Card {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.length.saturating_sub(self.at).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < room {
            let (sector, from) = (self.at / 512, (self.at % 512) as usize);
            let length = (512 - from).min(room - done);
            buffer[done..done + length].copy_from_slice(&self.sector(sector)[from..from + length]);
            done += length;
            self.at += length as u64;
        }
        Ok(room)
    }
}

impl io::Write for Card {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.at + bytes.len() as u64 <= self.length);
        self.put(self.at, bytes);
        self.writes.push((self.at, bytes.to_vec()));
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Card {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if let SeekFrom::Start(at) = to {
            self.at = at;
        }
        Ok(self.at)
    }
}

impl Medium for Card {
    fn make_durable(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const SCHEMES: [Scheme; 2] = [Scheme::Gpt, Scheme::Mbr];

/// A fresh image on a card.
fn fresh(scheme: Scheme, length: u64) -> Card {
    let mut card = Card { length, ..Card::default() };
    let mut table = Table::new(scheme, UNSTAMPED_DISK.parse().unwrap(), 64 * MIB / SECTOR);
    for (role, first) in [(Role::Boot, 1), (Role::SystemA, 21), (Role::SystemB, 41)] {
        let guid = role.unstamped_guid().parse().unwrap();
        table.add(role, first * MIB / SECTOR, (first + 20) * MIB / SECTOR - 1, &mut || guid);
    }
    table.write(&mut card).unwrap();
    card.writes.clear();
    card
}

/// What mkfs and the label write, as far as it is looked at: the copies first, the primary last.
fn superblocks_of(place: Place, label: &str) -> Vec<(u64, Vec<u8>)> {
    let blocks = (place.length - RECORD) / BLOCK;
    let mut all: Vec<(u64, Vec<u8>)> = ext4::superblocks(place.start, place.length)
        .map(|(group, at)| {
            let mut bytes = vec![0u8; 1024];
            bytes[4..8].copy_from_slice(&(blocks as u32).to_le_bytes());
            bytes[24] = 2;
            bytes[56..58].copy_from_slice(&0xef53u16.to_le_bytes());
            bytes[90..92].copy_from_slice(&(group as u16).to_le_bytes());
            bytes[120..120 + label.len()].copy_from_slice(label.as_bytes());
            (at, bytes)
        })
        .collect();
    all.reverse();
    all
}

/// Boots until the state is in use; what `attach` does with tools is written here as bytes. How often it formatted.
fn boot(card: &mut Card) -> (usize, Place) {
    let mut formats = 0;
    let mut guid = 0u8;
    for _ in 0..8 {
        let seen = look(card, card.length / SECTOR).unwrap();
        let step = decide(&seen, &mut || {
            guid += 1;
            Guid::from_random([guid; 16])
        });
        apply(&step, card).unwrap();
        let write_all = |card: &mut Card, pieces: Vec<(u64, Vec<u8>)>| {
            for (at, bytes) in pieces {
                card.at = at;
                io::Write::write_all(card, &bytes).unwrap();
            }
        };
        match step {
            Step::Format(place) => {
                assert!(seen.born.is_none() && seen.file_system.is_none(), "formatted what holds something");
                formats += 1;
                write_all(card, superblocks_of(place, ""));
                write_all(card, superblocks_of(place, Role::State.label()));
                Born { id: Guid([7; 16]) }.write(card, place.start, place.length).unwrap();
                return (formats, place);
            }
            Step::Use { place, born, grows } => {
                if !born {
                    write_all(card, superblocks_of(place, Role::State.label()));
                    Born { id: Guid([7; 16]) }.write(card, place.start, place.length).unwrap();
                }
                if grows {
                    write_all(card, superblocks_of(place, Role::State.label()));
                }
                return (formats, place);
            }
            Step::Unavailable(why) => panic!("{why}"),
            _ => {}
        }
    }
    panic!("it never comes to an end")
}

/// Plays every prefix of the writes of a boot, and boots again from there.
fn cut_everywhere(start: &Card, born_before: bool) -> usize {
    let mut whole = start.clone();
    let (_, expected) = boot(&mut whole);
    let writes = std::mem::take(&mut whole.writes);
    let mut card = start.clone();
    let mut cuts = 0;
    for (at, bytes) in writes {
        for (number, sector) in bytes.chunks(512).enumerate() {
            card.put(at + number as u64 * 512, sector);
            let mut again = card.clone();
            let (formats, place) = boot(&mut again);
            assert_eq!(place, expected, "after cut {cuts}");
            assert!(!born_before || formats == 0, "a born partition was formatted after cut {cuts}");
            let (formats, _) = boot(&mut again);
            assert_eq!(formats, 0);
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn a_fresh_card_converges_from_every_cut() {
    // Making the state's entry is one sector on an MBR, and both copies of the table on a GPT.
    for (scheme, least) in [(Scheme::Gpt, 60), (Scheme::Mbr, 9)] {
        let cuts = cut_everywhere(&fresh(scheme, 700 * MIB), false);
        assert!(cuts > least, "only {cuts} cuts");
    }
}

fn used(scheme: Scheme, length: u64) -> Card {
    let mut card = fresh(scheme, length);
    boot(&mut card);
    card.writes.clear();
    card
}

#[test]
fn a_used_cards_copy_on_a_bigger_card_grows_and_is_never_formatted() {
    for (scheme, least) in [(Scheme::Gpt, 60), (Scheme::Mbr, 9)] {
        let mut bigger = used(scheme, 500 * MIB);
        bigger.length = 1200 * MIB;
        let cuts = cut_everywhere(&bigger, true);
        assert!(cuts > least, "only {cuts} cuts");
        let (_, place) = boot(&mut bigger);
        assert!(place.length > 1100 * MIB);
        bigger.writes.clear();
        boot(&mut bigger);
        assert!(bigger.writes.is_empty(), "a finished card is written again");
    }
}

#[test]
fn a_file_system_of_ours_without_its_record_is_kept() {
    for scheme in SCHEMES {
        let mut card = used(scheme, 500 * MIB);
        let (_, place) = boot(&mut card);
        card.put(place.start + place.length - RECORD, &[0; RECORD as usize]);
        assert_eq!(boot(&mut card.clone()).0, 0);
        // Even when only a copy of the superblock is left.
        card.put(place.start + 1024, &[0; 1024]);
        assert_eq!(boot(&mut card).0, 0);
    }
}

#[test]
fn a_born_partition_with_a_destroyed_file_system_is_kept() {
    for scheme in SCHEMES {
        let mut card = used(scheme, 500 * MIB);
        let (_, place) = boot(&mut card);
        for (at, _) in superblocks_of(place, "") {
            card.put(at, &[0; 1024]);
        }
        let sectors = card.length / SECTOR;
        let seen = look(&mut card, sectors).unwrap();
        assert!(matches!(decide(&seen, &mut Guid::default), Step::Use { born: true, .. }));
    }
}

#[test]
fn a_fresh_image_on_a_used_card_starts_afresh_from_every_cut() {
    // Also where the card was of the other kind before, whose table is then still there behind an MBR.
    for (before, scheme) in SCHEMES.into_iter().flat_map(|before| SCHEMES.map(|scheme| (before, scheme))) {
        let mut card = used(before, 500 * MIB);
        let image = fresh(scheme, 500 * MIB);
        for (number, sector) in &image.bytes {
            card.bytes.insert(*number, *sector);
        }
        assert_eq!(boot(&mut card.clone()).0, 1, "{scheme:?} on {before:?}");
        cut_everywhere(&card, false);
    }
}

#[test]
fn no_room_is_said_with_numbers() {
    let mut card = fresh(Scheme::Mbr, 200 * MIB);
    let sectors = card.length / SECTOR;
    let seen = look(&mut card, sectors).unwrap();
    assert!(matches!(decide(&seen, &mut Guid::default), Step::Unavailable(why) if why.contains("256 MiB")));
}
