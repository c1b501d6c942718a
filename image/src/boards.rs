//! The boards that Bakelite knows: the files of board-configs/, taken in when the workshop is compiled.

use bakelite_spec::board::Board;
use bakelite_spec::finding::{Finding, nearest};
use bakelite_spec::keys::{BOARD, defaults};
use bakelite_spec::layers::{Effective, Layer};
use bakelite_spec::yaml::Document;
use std::collections::BTreeMap;

/// Each board's file by the board's name.
pub const BOARDS: &[(&str, &str)] = &[
    ("generic-x86_64", include_str!("../../board-configs/generic-x86_64.yaml")),
    ("qemu-x86_64", include_str!("../../board-configs/qemu-x86_64.yaml")),
];

const MODULE_SETS: &str = include_str!("../../board-configs/module-sets.yaml");

/// Reads a board by its name.
///
/// # Errors
/// A finding that names the nearest board; the findings in a board's file, which are a defect of this release.
pub fn board(name: &str) -> Result<Board, Vec<Finding>> {
    let Some((_, text)) = BOARDS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = BOARDS.iter().map(|(name, _)| *name).collect();
        let hint = nearest(name, names.iter().copied()).map_or_else(|| names.join(", "), |near| format!("`{near}`"));
        return Err(vec![Finding::error("board", format!("`{name}` is not a known board"), hint)]);
    };
    let document = Document::read(&format!("board-configs/{name}.yaml"), text, BOARD)?;
    let effective = Effective::default().with(Layer::Defaults, &defaults(BOARD)).with(Layer::Board, &document.value);
    Board::from_values(&effective.values).map_err(|error| vec![Finding::error("board", error.to_string(), "")])
}

/// The names of all modules of a set; sets may be written in several lists.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<Names>),
}

impl Names {
    fn flatten(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names.into_iter().flat_map(Self::flatten).collect(),
        }
    }
}

/// The names of the modules in some sets, sorted.
///
/// # Errors
/// A finding for a set that there isn't.
pub fn modules_of(sets: &[String]) -> Result<Vec<String>, Vec<Finding>> {
    let mut known: BTreeMap<String, Names> =
        serde_yaml::from_str(MODULE_SETS).map_err(|error| vec![Finding::error("modules", error.to_string(), "")])?;
    let mut names = Vec::new();
    for set in sets {
        let Some(set) = known.remove(set) else {
            let hint = known.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(vec![Finding::error("modules", format!("`{set}` is not a known set of modules"), hint)]);
        };
        names.extend(set.flatten());
    }
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_board_reads_and_each_of_its_sets_is_there() {
        for (name, text) in BOARDS {
            let board = board(name).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
            assert!(!modules_of(&board.modules.root).unwrap().is_empty());
            assert!(!modules_of(&board.modules.initramfs).unwrap().is_empty());
            assert!(text.lines().count() <= 60, "{name} is longer than 60 lines");
        }
    }

    #[test]
    fn a_slip_in_a_board_name_finds_the_nearest() {
        let findings = board("generic-x86-64").unwrap_err();
        assert_eq!(findings[0].to_string(), "board: `generic-x86-64` is not a known board; try `generic-x86_64`");
    }
}
