//! `bakelite reset`: says what goes, has a person name the node, backs up first, and leaves the wish for the next boot.
//!
//! Nothing is destroyed here. Of all that is asked the wish comes last: before it nothing has changed, after it the
//! machine restarts, and the next boot does what was wished before anything else.

use super::stick;
use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::{layers, probe, relocate};
use bakelite_plan::facts::Facts;
use bakelite_plan::identity;
use bakelite_plan::reset::{self, Level, WISH, Wish};
use bakelite_spec::answer::Answer;
use bakelite_spec::status::paths;
use bakelite_sys::{durable, socket, terminal};
use bakelite_trust::stick::SETS;
use std::path::Path;

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
struct Words<'a> {
    level: Level,
    yes: Option<&'a str>,
    backup: bool,
}

impl<'a> Words<'a> {
    fn read(words: &[&'a str]) -> Option<Self> {
        let (mut level, mut yes, mut backup) = (None, None, true);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--keep-identity" if level.is_none() => level = Some(Level::KeepIdentity),
                "--everything" if level.is_none() => level = Some(Level::Everything),
                "--yes" => yes = Some(*words.next()?),
                "--no-backup" => backup = false,
                _ => return None,
            }
        }
        Some(Self { level: level?, yes, backup })
    }
}

/// Asks, backs up, and has the machine restart for it.
///
/// # Errors
/// When the words mean nothing, the node isn't named, no backup can be made, or the wish can't be left.
pub fn begin(root: &Path, answer: Answer, words: &[&str]) -> Result<(), FirstbootError> {
    let typed = Words::read(words).ok_or_else(|| FirstbootError::UnknownWords(format!("reset {}", words.join(" "))))?;
    let facts = probe::facts(root, &Looked::by_early(root), 0);
    let node = identity::of(&facts).ok_or_else(|| FirstbootError::NotYet("this machine has no name yet".into()))?.node;
    let wish = reset::wish(&facts, &node, typed.level);
    let say = |text: &str| terminal::print(&answer.said(text));
    say(&what_goes(&facts, &wish));
    let named = match typed.yes {
        Some(name) => Some(name.to_string()),
        None => terminal::ask("Type the name of this machine to go on: "),
    };
    if named.as_ref() != Some(&node) {
        return Err(FirstbootError::NotNamed(node));
    }
    if typed.backup {
        say(&back_up(root, &node, typed.level)?);
    }
    let text = serde_json::to_vec(&wish).map_err(FirstbootError::WriteReport)?;
    durable::write_durable(root.join(&WISH[1..]), &text, 0o600)?;
    if let Err(error) = socket::ask(Path::new(paths::CONTROL), "reboot", relocate::LIMIT) {
        durable::remove_file(root.join(&WISH[1..]))?;
        return Err(error.into());
    }
    say("The machine restarts now, and once more when it is done.");
    Ok(())
}

/// What is lost, what stays, and what isn't touched.
fn what_goes(facts: &Facts, wish: &Wish) -> String {
    let media = match &wish.disk {
        Some(disk) => format!("the card and the data disk ({})", disk.words),
        None => "the card".into(),
    };
    let cluster = bakelite_plan::cluster::of(facts);
    let cluster = cluster.map_or("no cluster so far".into(), |born| bakelite_plan::cluster::id(&born));
    let mut text = match wish.level {
        Level::KeepIdentity => format!(
            "{} loses its cluster ({cluster}), volumes, images and logs, and /opt, /srv and /data, on {media}.\n\
             Its name, keys, secrets, settings and backups stay.",
            wish.node
        ),
        Level::Everything => format!(
            "{} loses all it ever wrote on {media}: its cluster ({cluster}), volumes, /opt, /srv and /data, its name, keys, \
             secrets, settings, and all backups that lie there.\nIt starts like a freshly flashed one. This is no secure \
             erasure.",
            wish.node
        ),
    };
    let home = bakelite_plan::home::of(facts).and_then(|home| home.needs().cloned());
    if let Some(absent) = home.filter(|_| wish.disk.is_none()) {
        text += &format!("\nIts data disk ({}) isn't here, and stays as it is.", absent.words);
    }
    text
}

/// Makes a verified set; where all goes, it has to be somewhere else.
fn back_up(root: &Path, node: &str, level: Level) -> Result<String, FirstbootError> {
    let settings = layers::settings(root)?;
    let Some(set) = bakelite_keeper::make_one(&settings)? else {
        return Ok("There is no cluster to back up.".into());
    };
    if level == Level::KeepIdentity {
        return Ok(format!("Backed up first: {}", set.display()));
    }
    stick::change(root, |folder| Ok(bakelite_keeper::put(&folder.join(SETS).join(node), &set)?))?;
    Ok(format!("Backed up first, onto the stick: {}", set.file_name().unwrap_or_default().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{machine, write};
    use bakelite_plan::disk::{Data, Disk};

    #[test]
    fn the_level_has_to_be_said_and_only_one() {
        let words = |level, yes, backup| Some(Words { level, yes, backup });
        assert_eq!(Words::read(&["--everything"]), words(Level::Everything, None, true));
        let all = ["--yes", "shop-1", "--no-backup", "--keep-identity"];
        assert_eq!(Words::read(&all), words(Level::KeepIdentity, Some("shop-1"), false));
        for wrong in
            [&[][..], &["--yes", "x"], &["--everything", "--keep-identity"], &["--everything", "--yes"], &["all"]]
        {
            assert_eq!(Words::read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn without_the_right_name_nothing_is_wished() {
        let root = machine("k3s: rehearsal\n");
        let begin = |words: &[&str]| begin(root.path(), Answer::default(), words).unwrap_err();
        assert!(matches!(begin(&["--everything", "--yes", "x"]), FirstbootError::NotYet(_)));
        write(root.path(), identity::RECORD, "{\"format\":1,\"node\":\"shop-1\"}");
        assert!(matches!(begin(&["--everything", "--yes", "shop-2"]), FirstbootError::NotNamed(_)));
        assert!(matches!(begin(&["--everything", "--no"]), FirstbootError::UnknownWords(_)));
        // Nobody answers over the control socket here: the wish is taken back.
        assert!(matches!(begin(&["--everything", "--no-backup", "--yes", "shop-1"]), FirstbootError::Sys(_)));
        assert!(!root.path().join(&WISH[1..]).exists());
    }

    #[test]
    fn what_goes_is_said_with_the_disks_words_and_an_absent_one_is_left_out() {
        let data = Data { guid: "g".into(), born: true, attached: true, ..Data::default() };
        let disk = Disk { name: "sda".into(), serial: "S1".into(), data: Some(data), ..Disk::default() };
        let home = r#"{"format":1,"place":{"disk":{"guid":"g","words":"serial S1"}},"epoch":1}"#;
        let files = [(bakelite_plan::home::HOME.to_string(), home.to_string())].into();
        let mut facts = Facts { disks: vec![disk], files, ..Facts::default() };
        let text = |facts: &Facts, level| what_goes(facts, &reset::wish(facts, "shop-1", level));
        assert!(
            text(&facts, Level::Everything).contains("shop-1 loses all it ever wrote on the card and the data disk")
        );
        assert!(text(&facts, Level::KeepIdentity).contains("backups stay"));
        facts.disks.clear();
        assert!(text(&facts, Level::Everything).contains("Its data disk (serial S1) isn't here, and stays"));
    }
}
