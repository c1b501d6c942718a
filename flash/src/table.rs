//! A table of machines, CSV with a header: a row a machine, a column a key of its seed.
//!
//! Columns `row`, `mac`, `serial` and those that begin with `#` are the table's own: they name rows and go onto no medium.
//! Two rows with the same name, hostname or node are refused: that would be one identity for two machines.

use crate::error::FlashError;
use crate::seed::SeedFile;
use bakelite_spec::installer::plain;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Columns that name a row, besides its first key.
const NAMES: [&str; 3] = ["row", "mac", "serial"];
/// Keys that no two machines may share.
const IDENTITIES: [&str; 2] = ["hostname", "seed.node"];

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is called: its `row`, else `seed.node`, `hostname`, or first column.
    pub name: String,
    /// Its columns by their names, without those of secrets.
    pub columns: BTreeMap<String, String>,
    /// The seed's keys with their values.
    pub sets: Vec<(String, String)>,
    /// A sum over all of it, by which a changed row is known.
    pub sum: String,
}

impl Row {
    /// The node that it names; empty where that is a pattern, or left to the machine.
    pub fn node(&self) -> String {
        let named = self.columns.get("seed.node").or_else(|| self.columns.get("hostname"));
        named.filter(|name| !name.contains('{')).cloned().unwrap_or_default()
    }
}

/// The table.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    /// Its rows, in order.
    pub rows: Vec<Row>,
}

impl Table {
    /// Reads a table, and checks each row's seed by itself.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub fn read(path: &Path) -> Result<Self, FlashError> {
        let wrong = |problem: String| FlashError::Table { path: path.into(), problem };
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(|error| wrong(error.to_string()))?;
        let header = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
        let (mut rows, mut taken) = (Vec::new(), BTreeSet::new());
        for record in reader.records() {
            let record = record.map_err(|error| wrong(error.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            let row = row(&header, &record).map_err(|error| wrong(format!("line {line}: {error}")))?;
            let identities = IDENTITIES.into_iter().filter_map(|key| Some((key, row.columns.get(key)?.as_str())));
            for (key, value) in identities.chain([("row", row.name.as_str())]) {
                // A pattern is no identity.
                if !value.contains('{') && !taken.insert((key, value.to_string())) {
                    return Err(wrong(format!("line {line}: another row has {key} {value} as well")));
                }
            }
            rows.push(row);
        }
        if rows.is_empty() {
            return Err(wrong("it has no rows".into()));
        }
        Ok(Self { path: path.into(), rows })
    }

    /// The row that is called so, or whose board has this MAC address or serial number.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, word: &str) -> Result<&Row, FlashError> {
        let by_board = |row: &&Row| {
            ["mac", "serial"].iter().any(|key| row.columns.get(*key).is_some_and(|value| plain(value) == plain(word)))
        };
        let exact = self.rows.iter().find(|row| row.name == word);
        let found: Vec<&Row> = exact.map_or_else(|| self.rows.iter().filter(by_board).collect(), |row| vec![row]);
        match found[..] {
            [row] => Ok(row),
            [] => Err(FlashError::Table { path: self.path.clone(), problem: format!("it has no row {word}") }),
            [..] => Err(FlashError::Table { path: self.path.clone(), problem: format!("several rows are for {word}") }),
        }
    }
}

fn row(header: &csv::StringRecord, record: &csv::StringRecord) -> Result<Row, FlashError> {
    let (mut columns, mut sets, mut sum) = (BTreeMap::new(), Vec::new(), Sha256::new());
    for (key, value) in header.iter().zip(record).filter(|(_, value)| !value.is_empty()) {
        for part in [key, value] {
            sum.update((part.len() as u64).to_le_bytes());
            sum.update(part);
        }
        if !key.starts_with("seed.secrets.") {
            columns.insert(key.to_string(), value.to_string());
        }
        if !NAMES.contains(&key) && !key.starts_with('#') {
            sets.push((key.to_string(), value.to_string()));
        }
    }
    SeedFile::make(None, &sets)?;
    let named = ["row", "seed.node", "hostname"].iter().find_map(|key| columns.get(*key));
    let name = named.map_or_else(|| record.get(0).unwrap_or_default().to_string(), Clone::clone);
    if name.is_empty() {
        return Err(FlashError::Seed("the row has no name: its first column is empty".into()));
    }
    let sum = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Row { name, columns, sets, sum })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn table(text: &str) -> Result<Table, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Table::read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_are_found_by_name_and_by_board() {
        let table = table(
            "row,hostname,mac,#shelf,seed.secrets.wifi,network.wait\n17,shop-17,DC:A6:32:01:02:03,B,\"a,b\",3\n18,shop-18,dc-a6-32-01-02-04,,,\n",
        )
        .unwrap();
        let row = table.find("dca632010203").unwrap();
        assert_eq!((row.name.as_str(), row.sets.len(), row.columns.len()), ("17", 3, 5));
        assert!(
            row.sets.contains(&("seed.secrets.wifi".into(), "a,b".into()))
                && !format!("{:?}", row.columns).contains("a,b")
        );
        assert_eq!(table.find("18").unwrap().sets, [("hostname".into(), "shop-18".into())]);
        assert!(table.find("19").unwrap_err().to_string().contains("no row 19"));
        assert_ne!(table.rows[0].sum, table.rows[1].sum);
    }

    #[test]
    fn what_would_give_one_identity_twice_or_is_wrong_is_refused_with_its_line() {
        for (text, words) in [
            ("row,hostname\n1,a\n2,a\n", "line 3: another row has hostname a"),
            ("row,hostname\n1,a\n1,b\n", "line 3: another row has row 1"),
            ("seed.node\na\na\n", "another row has seed.node a"),
            ("hostname,hostnam\na,b\n", "line 2: hostnam: is not a known key; try `hostname`"),
            ("hostname\nA_b\n", "line 2: hostname"),
            ("hostname\n", "no rows"),
            ("row,hostname\n1\n", "line"),
        ] {
            let why = table(text).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        assert_eq!(table("row,hostname\n1,shop-{serial}\n2,shop-{serial}\n").unwrap().rows.len(), 2);
    }
}
