//! An installer stick's table of machines, made of the CSV that a line has: each row's seed whole, checked, and with its ticket.
//!
//! The machine takes a seed from the stick as it is; so all that could be wrong with one is found here. Secrets go onto the stick,
//! and nowhere else.

use crate::baked::Baked;
use crate::error::{FlashError, io_error};
use crate::factory::line::Line;
use crate::image::Image;
use crate::seed::SeedFile;
use crate::table::{Row, Table};
use bakelite_image::BuildError;
use bakelite_image::config::{self, Config};
use bakelite_spec::hexadecimal::hexadecimal;
use bakelite_spec::installer::{self, FORMAT, Rows, plain};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Reads a table for the machines of an appliance. `common`: what all seeds have in common.
///
/// # Errors
/// What is wrong, with the row.
pub fn rows(table: &Path, common: Option<&Path>, appliance: &Path) -> Result<Rows, FlashError> {
    let base = common.map(|path| std::fs::read_to_string(path).map_err(io_error("reading", path))).transpose()?;
    made(table, appliance, &|row, ticket| {
        let sets: Vec<_> = row.sets.iter().cloned().chain([("seed.ticket".to_string(), ticket.into())]).collect();
        SeedFile::make(base.as_deref(), &sets)
    })
}

/// The table of a line, whose machines report to it over the network where the line hears them; and the id of the line's image.
///
/// # Errors
/// What is wrong with the line or its table.
pub fn rows_of_line(path: &Path, appliance: &Path) -> Result<(Rows, String), FlashError> {
    let line = Line::read(path)?;
    let image = Baked::read(&Image::open(&line.image, line.bmap.as_deref())?)?.manifest.image;
    let key = line.key()?;
    let rows = made(&line.rows, appliance, &|row, ticket| line.seed(row, ticket, key.as_ref()))?;
    Ok((rows, image))
}

fn made(
    table: &Path,
    appliance: &Path,
    seed: &dyn Fn(&Row, &str) -> Result<SeedFile, FlashError>,
) -> Result<Rows, FlashError> {
    let config = config::load(appliance).map_err(|findings| BuildError::Config { findings })?;
    let read = Table::read(table)?;
    let made = read.rows.iter().map(|row| {
        let wrong = |error| FlashError::Table { path: table.into(), problem: format!("row {}: {error}", row.name) };
        let ticket = ticket(row);
        seed(row, &ticket).and_then(|seed| one(row, ticket, &seed, &config)).map_err(wrong)
    });
    Ok(Rows { format: FORMAT, rows: made.collect::<Result<_, _>>()? })
}

fn one(row: &Row, ticket: String, seed: &SeedFile, config: &Config) -> Result<installer::Row, FlashError> {
    seed.check(&config.effective, &config.board)?;
    let boards = ["mac", "serial"].iter().filter_map(|key| row.columns.get(*key)).map(|word| plain(word));
    Ok(installer::Row {
        name: row.name.clone(),
        sum: row.sum.clone(),
        node: row.node(),
        boards: boards.collect(),
        ticket,
        seed: seed.text().into(),
    })
}

/// The row's own, so that the same table makes the same stick, and two sticks with one table are found out by the line.
pub(crate) fn ticket(row: &Row) -> String {
    let sum = Sha256::digest(format!("installer {} {}", row.name, row.sum));
    format!("t-{}", hexadecimal(&sum[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::seed::Seed;
    use std::fs::File;
    use std::io::Write;

    fn made(table: &str) -> Result<Rows, String> {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            path
        };
        let appliance = put("a.yaml", "board: qemu-x86_64\nk3s: none\n");
        let common = put("common.yaml", "network: {wait: 3}\n");
        rows(&put("rows.csv", table), Some(&common), &appliance).map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_becomes_whole_seeds_with_a_ticket_of_their_own() {
        let text =
            "row,hostname,mac,serial,seed.secrets.wifi\n17,shop-17,DC:A6:32:01:02:03,PF-17,hunter2\n18,shop-18,,,\n";
        let rows = made(text).unwrap();
        assert_eq!(made(text).unwrap(), rows);
        let (one, two) = (&rows.rows[0], &rows.rows[1]);
        assert_eq!(
            (one.name.as_str(), one.node.as_str(), &one.boards[..]),
            ("17", "shop-17", &["dca632010203".to_string(), "pf17".into()][..])
        );
        let seed = Seed::parse(one.seed.as_bytes()).unwrap();
        assert_eq!(seed.ticket.as_deref(), Some(one.ticket.as_str()));
        assert_eq!((seed.settings["network"]["wait"].as_u64(), seed.secrets["wifi"].as_str()), (Some(3), "hunter2"));
        assert!(two.boards.is_empty() && two.ticket != one.ticket);
        let changed = made(&text.replace("shop-17", "shop-19")).unwrap();
        assert_ne!(changed.rows[0].ticket, one.ticket);
    }

    #[test]
    fn what_a_machine_would_refuse_is_refused_with_its_row() {
        let why = made("row,hostname,board.name\n17,shop-17,rpi4\n").unwrap_err();
        assert!(why.contains("row 17") || why.contains("line 2"), "{why}");
        assert!(made("row,hostname\n1,a\n2,a\n").unwrap_err().contains("another row has hostname a"));
    }
}
