//! Which row of an installer stick's table a machine gets: never one that another machine has.

use bakelite_spec::installer::{Attempt, Board, Row, State};

/// Chooses.
///
/// # Errors
/// Why there is none for it.
pub fn choose<'a>(rows: &'a [Row], done: &[Attempt], board: &Board) -> Result<&'a Row, String> {
    // What was cut before it could boot gives its row back; what may boot keeps it.
    let holds = |attempt: &&Attempt| attempt.state >= State::Finishing;
    let of = |row: &Row| done.iter().filter(holds).find(|attempt| attempt.row == row.name);
    let own = done.iter().filter(|attempt| attempt.board.is(board)).map(|attempt| attempt.row.as_str());
    let own: Vec<&str> = own.collect();
    let named: Vec<&Row> = rows.iter().filter(|row| board.is_named(row)).collect();
    let row = match named[..] {
        [row] => Some(row),
        [one, two, ..] => return Err(format!("rows {} and {} of its table are both for it", one.name, two.name)),
        [] => {
            let free = || rows.iter().filter(|row| row.boards.is_empty());
            // Whoever had one already, from this stick, gets the same one again.
            let had = free().find(|row| own.contains(&row.name.as_str()));
            had.filter(|row| of(row).is_none_or(|attempt| attempt.board.is(board)))
                .or_else(|| free().find(|row| of(row).is_none()))
        }
    };
    let row = row.ok_or_else(|| format!("its table has no row left for this machine ({})", board.words()))?;
    match of(row).filter(|attempt| !attempt.board.is(board)) {
        Some(other) => {
            Err(format!("row {} of its table was given to another machine ({})", row.name, other.board.words()))
        }
        None => Ok(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, boards: &[&str]) -> Row {
        Row { name: name.into(), boards: boards.iter().map(ToString::to_string).collect(), ..Row::default() }
    }

    fn board(serial: &str) -> Board {
        Board { serial: serial.into(), macs: Vec::new() }
    }

    fn attempt(row: &str, serial: &str, state: State) -> Attempt {
        Attempt { row: row.into(), board: board(serial), state, ..Attempt::default() }
    }

    fn name(rows: &[Row], done: &[Attempt], serial: &str) -> Result<String, String> {
        choose(rows, done, &board(serial)).map(|row| row.name.clone())
    }

    #[test]
    fn the_row_that_names_a_board_is_its_own_and_the_others_go_in_order() {
        let rows = [row("1", &["a"]), row("2", &[]), row("3", &[])];
        assert_eq!(name(&rows, &[], "a"), Ok("1".into()));
        assert_eq!(name(&rows, &[], "b"), Ok("2".into()));
        let done = [attempt("2", "b", State::Written)];
        assert_eq!(name(&rows, &done, "c"), Ok("3".into()));
        assert_eq!(name(&rows, &done, "b"), Ok("2".into()), "again, after its disk was taken out");
        let all = [done[0].clone(), attempt("3", "c", State::Finishing)];
        assert!(name(&rows, &all, "d").unwrap_err().contains("no row left for this machine (serial d)"));
        assert_eq!(name(&rows, &all, "a"), Ok("1".into()));
    }

    #[test]
    fn no_row_is_given_twice_wherever_a_machine_was_cut() {
        let rows = [row("1", &[]), row("2", &[])];
        for state in [State::Reserved, State::Failed] {
            let cut = [attempt("1", "a", state)];
            assert_eq!(name(&rows, &cut, "b"), Ok("1".into()), "it doesn't boot");
            let both = [cut[0].clone(), attempt("1", "b", State::Written)];
            assert_eq!(name(&rows, &both, "a"), Ok("2".into()), "its row went to another one meanwhile");
        }
        let may_boot = [attempt("1", "a", State::Finishing)];
        assert_eq!(name(&rows, &may_boot, "b"), Ok("2".into()));
        let named = [row("1", &["a"]), row("2", &["a"])];
        assert!(name(&named, &[], "a").unwrap_err().contains("both for it"));
        let taken = [attempt("1", "b", State::Written)];
        assert!(name(&[row("1", &["a"])], &taken, "a").unwrap_err().contains("given to another machine (serial b)"));
    }
}
