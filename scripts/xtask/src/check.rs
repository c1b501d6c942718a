//! What the house rules forbid and no compiler sees: one line a finding.
//!
//! Rules look at texts, and only at files that are tracked. Code of tests may name a board: it has to choose one.

use crate::{arrows, door};
use anyhow::{Context, Result};
use bakelite_spec::fault::Code;
use std::path::Path;

/// Lines of a source file that are worth a warning, and that are too many.
const LONG: usize = 450;
const TOO_LONG: usize = 600;
/// The one place where boards are listed, because they are compiled in.
const BOARDS_TABLE: &str = "image/src/boards.rs";
/// The first line of YAML that editors check.
const SCHEMA_LINE: &str = "# yaml-language-server: $schema=";
/// Files that name hosts and paths because that is what they are about: what cargo writes, and this check.
const NAMES_ALLOWED: &[&str] = &["Cargo.lock", "fuzz/Cargo.lock"];
/// Package registries and mirrors by the last two labels of their hosts, and folders in which only somebody's own
/// machine keeps things; in pieces, so that this file holds none of them itself.
const REGISTRIES: &[(&str, &str)] =
    &[("debian", "org"), ("crates", "io"), ("pypi", "org"), ("golang", "org"), ("npmjs", "com")];
const FOLDERS: &[&str] = &["home", "Users", "work"];

/// One tracked text file.
struct Text {
    path: String,
    text: String,
}

impl Text {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The code without its tests.
    fn code(&self) -> &str {
        let is_test =
            self.path.contains("/tests/") || self.path.ends_with("tests.rs") || self.path.ends_with("testing.rs");
        if is_test { "" } else { self.text.split("#[cfg(test)]").next().unwrap_or_default() }
    }
}

/// Looks for all findings and prints them; whether there were none.
pub fn run() -> Result<bool> {
    let root = door::root();
    let files = tracked(&root)?;
    let mut findings = arrows::findings(&root)?;
    findings.extend(
        files.iter().filter(|file| file.is_rust()).flat_map(|file| architectures(file).into_iter().chain(length(file))),
    );
    let boards = boards(&files);
    findings.extend(files.iter().filter(|file| file.is_rust()).flat_map(|file| board_names(file, &boards)));
    findings.extend(files.iter().flat_map(hosts_and_paths));
    findings.extend(files.iter().filter_map(schema_line));
    findings.extend(faults(&files));
    findings.extend(readme(&files));
    warnings(&files).iter().for_each(|warning| println!("warning: {warning}"));
    findings.iter().for_each(|finding| println!("{finding}"));
    println!("{} files looked at, {} findings", files.len(), findings.len());
    Ok(findings.is_empty())
}

fn tracked(root: &Path) -> Result<Vec<Text>> {
    let list = door::run("git", &["ls-files", "-z"], root).context("listing tracked files")?;
    let paths = list.split('\0').filter(|path| !path.is_empty());
    // What isn't text, or was just removed, has nothing to look at.
    Ok(paths
        .filter_map(|path| Some(Text { path: path.into(), text: std::fs::read_to_string(root.join(path)).ok()? }))
        .collect())
}

fn boards(files: &[Text]) -> Vec<String> {
    let names = files.iter().filter_map(|file| file.path.strip_prefix("board-configs/")?.strip_suffix(".yaml"));
    names.filter(|name| *name != "module-sets" && !name.contains('/')).map(String::from).collect()
}

fn board_names(file: &Text, boards: &[String]) -> Vec<String> {
    if file.path == BOARDS_TABLE {
        return Vec::new();
    }
    let named = |line: &str| boards.iter().find(|board| line.contains(&format!("\"{board}\""))).cloned();
    let lines = (1..).zip(file.code().lines());
    lines
        .filter_map(|(number, line)| Some((number, named(line)?)))
        .map(|(number, board)| format!("{}:{number}: names the board {board}; ask the board for a property", file.path))
        .collect()
}

fn architectures(file: &Text) -> Vec<String> {
    // Put together here, so that this file doesn't find itself.
    let wanted = ["cfg(", "target_arch"].concat();
    if file.path.starts_with("lib/sys/") {
        return Vec::new();
    }
    let lines = (1..).zip(file.text.lines()).filter(|(_, line)| line.contains(&wanted));
    lines.map(|(number, _)| format!("{}:{number}: {wanted} belongs into lib/sys", file.path)).collect()
}

fn length(file: &Text) -> Option<String> {
    let lines = file.text.lines().count();
    (lines > TOO_LONG).then(|| format!("{}: {lines} lines, more than {TOO_LONG}", file.path))
}

fn warnings(files: &[Text]) -> Vec<String> {
    let long = files.iter().filter(|file| file.is_rust()).map(|file| (file, file.text.lines().count()));
    long.filter(|(_, lines)| (LONG + 1..=TOO_LONG).contains(lines))
        .map(|(file, lines)| format!("{}: {lines} lines", file.path))
        .collect()
}

fn hosts_and_paths(file: &Text) -> Vec<String> {
    if NAMES_ALLOWED.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let hosts = REGISTRIES.iter().map(|(name, top)| format!("{name}.{top}"));
    let forbidden: Vec<String> = hosts.chain(FOLDERS.iter().map(|folder| format!("/{folder}/"))).collect();
    let found = |line: &str| forbidden.iter().find(|words| line.contains(*words));
    let lines = (1..).zip(file.text.lines()).filter_map(|(number, line)| Some((number, found(line)?)));
    lines.map(|(number, words)| format!("{}:{number}: holds {words}", file.path)).collect()
}

fn schema_line(file: &Text) -> Option<String> {
    let is_board = file.path.starts_with("board-configs/") && !file.path.ends_with("module-sets.yaml");
    // In folders of the examples are the files that they name.
    let is_example = file.path.strip_prefix("examples/").is_some_and(|rest| !rest.contains('/'));
    let is_checked = is_board || is_example || file.path.starts_with("scripts/scenarios/appliances/");
    let lacks = file.path.ends_with(".yaml") && is_checked && !file.text.starts_with(SCHEMA_LINE);
    lacks.then(|| format!("{}:1: lacks the line `{SCHEMA_LINE}…`", file.path))
}

fn faults(files: &[Text]) -> Vec<String> {
    let names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    let pages: Vec<&str> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix("docs/faults/")?.strip_suffix(".md"))
        .filter(|page| *page != "README")
        .collect();
    let without_page = names.iter().filter(|name| !pages.contains(name));
    let without_code = pages.iter().filter(|page| !names.contains(page));
    without_page
        .map(|name| format!("the fault {name} has no page docs/faults/{name}.md"))
        .chain(without_code.map(|page| format!("docs/faults/{page}.md is the page of no fault")))
        .collect()
}

/// Commands of the README that there are not: scripts, tasks of this program, words of the command.
fn readme(files: &[Text]) -> Vec<String> {
    let text_of = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let Some(readme) = text_of("README.md") else { return vec!["there is no README.md".into()] };
    let (words, tasks) = (text_of("cli/src/arguments.rs").unwrap_or_default(), ["check", "vm"]);
    let is_word = |word: &str| {
        // clap makes the words of an enum's variants.
        words.lines().any(|line| {
            let variant = line.trim().trim_end_matches([' ', '{', ',', ';']);
            variant.split('(').next().is_some_and(|variant| variant.len() > 1 && variant.to_lowercase() == word)
        })
    };
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(readme.lines()) {
        let mut parts = line.split(|c: char| c.is_whitespace() || c == '`').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let next = parts.peek().copied().unwrap_or_default();
            let is_plain = !next.is_empty() && next.chars().all(|c| c.is_ascii_lowercase());
            let is_command = line.contains(&format!("`{part} {next}")) || line.starts_with("    ");
            let script = part.strip_prefix("scripts/").map(|name| name.trim_end_matches(['.', ',', ':', ')', '/']));
            if script.is_some_and(|name| {
                let path = format!("scripts/{name}");
                !name.is_empty()
                    && !files.iter().any(|file| file.path == path || file.path.starts_with(&format!("{path}/")))
            }) {
                findings.push(format!("README.md:{number}: there is no {part}"));
            }
            if part == "xtask" && is_plain && !tasks.contains(&next) {
                findings.push(format!("README.md:{number}: there is no `cargo xtask {next}`"));
            }
            if (part == "bakelite" || part.ends_with("/bakelite")) && is_plain && is_command && !is_word(next) {
                findings.push(format!("README.md:{number}: there is no `bakelite {next}`"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Text {
        Text { path: path.into(), text: text.into() }
    }

    #[test]
    fn boards_are_not_named_but_in_their_table_and_in_tests() {
        let boards = boards(&[file("board-configs/toaster.yaml", ""), file("board-configs/module-sets.yaml", "")]);
        assert_eq!(boards, ["toaster"]);
        let code = "fn x() {\n    name == \"toaster\"\n}\n#[cfg(test)]\nmod tests { \"toaster\" }\n";
        assert_eq!(
            board_names(&file("image/src/x.rs", code), &boards),
            ["image/src/x.rs:2: names the board toaster; ask the board for a property"]
        );
        assert!(board_names(&file(BOARDS_TABLE, code), &boards).is_empty());
        assert!(board_names(&file("image/tests/x.rs", code), &boards).is_empty());
    }

    #[test]
    fn architectures_hosts_and_lengths() {
        let code = ["#[cfg(", "target_arch = \"arm\")]"].concat();
        assert_eq!(architectures(&file("init/src/x.rs", &code)).len(), 1);
        assert!(architectures(&file("lib/sys/src/x.rs", &code)).is_empty());
        let mirror = ["debian", "org"].join(".");
        assert_eq!(
            hosts_and_paths(&file("docs/x.md", &format!("ok\nhttp://deb.{mirror}/debian\n"))),
            [format!("docs/x.md:2: holds {mirror}")]
        );
        assert!(length(&file("x.rs", &"\n".repeat(600))).is_none());
        assert!(length(&file("x.rs", &"\n".repeat(601))).is_some());
        assert_eq!(warnings(&[file("x.rs", &"\n".repeat(451))]), ["x.rs: 451 lines"]);
    }

    #[test]
    fn pages_of_faults_and_lines_of_schemas() {
        let all: Vec<Text> =
            Code::ALL.iter().map(|code| file(&format!("docs/faults/{}.md", code.name()), "")).collect();
        assert!(faults(&all).is_empty());
        assert!(faults(&all[1..])[0].contains("has no page"));
        let more = [file("docs/faults/old.md", "")];
        assert!(faults(&more).contains(&"docs/faults/old.md is the page of no fault".to_string()));
        assert!(schema_line(&file("examples/x.yaml", "board: x\n")).is_some());
        assert!(schema_line(&file("examples/x.yaml", "# yaml-language-server: $schema=x\nboard: x\n")).is_none());
        assert!(schema_line(&file("board-configs/module-sets.yaml", "")).is_none());
    }

    #[test]
    fn commands_of_the_readme_exist() {
        let words = file("cli/src/arguments.rs", "pub enum Command {\n    New {\n    },\n    Build(Build),\n}\n");
        let script = file("scripts/build", "");
        let text = "Run `scripts/build`, then `bakelite build x`.\n\n    bakelite new --board x\n    cargo xtask check\nThe bakelite house.\n";
        assert_eq!(readme(&[file("README.md", text), words, script]), Vec::<String>::new());
        let text = "`scripts/bild`\n    bakelite brew x\n    cargo xtask dance\n";
        assert_eq!(readme(&[file("README.md", text)]).len(), 3);
        assert_eq!(readme(&[]), ["there is no README.md"]);
    }
}
