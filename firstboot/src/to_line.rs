//! To the line that made this machine: its own report, once it is good, over the network that both are on.
//!
//! A thread of the watch, which waits for nobody: where the line is, with which key and ticket, the seed has said. It is
//! tried for an hour of each boot within the first days, with longer and longer pauses, and given up in silence; a line may be long
//! gone. The report is no secret, the key is, and never leaves its file. An address is a number, so no name is asked for.

use crate::account;
use crate::error::FirstbootError;
use bakelite_plan::seed;
use bakelite_spec::account::{AVAILABLE, Account, Available, NAME};
use bakelite_spec::secret::FOLDER;
use bakelite_spec::seed::PASS_KEY;
use bakelite_spec::status::paths;
use bakelite_sys::{durable, machine, read_text, words};
use bakelite_trust::pass::{Answer, Head, LIMIT, LINE, PassKey};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// That the line has taken this machine's report as good.
const HEARD: &str = "/var/lib/bakelite/heard-by-line";
/// Between the first two attempts, and between any two.
const FIRST: Duration = Duration::from_secs(5);
const MOST: Duration = Duration::from_secs(300);
/// For so long of a boot.
const WHILE: Duration = Duration::from_secs(3600);
/// For so long, in seconds, after the machine first came up.
const DAYS: i64 = 3 * 24 * 3600;
/// For one exchange's steps.
const STEP: Duration = Duration::from_secs(10);

/// Whom to tell.
struct Line {
    at: SocketAddr,
    ticket: String,
    key: PassKey,
}

/// Writes the report onto the boot partition, and tells the line, if there is one to be told.
pub fn begin(root: &'static Path) {
    let told = std::thread::Builder::new().name("to-line".into()).spawn(move || {
        if let Err(error) = account::write(root) {
            log::warn!("{}", words(&error));
        }
        if let Some(line) = line(root)
            && let Err(error) = tell(root, &line)
        {
            log::warn!("{}", words(&error));
        }
    });
    if let Err(error) = told {
        log::warn!("no thread for the report to the line: {error}");
    }
}

/// The line that waits for this machine's report.
fn line(root: &Path) -> Option<Line> {
    let text = |path: &str| read_text(root.join(path.trim_start_matches('/'))).ok();
    if text(HEARD).is_some() {
        return None;
    }
    let available: Available = serde_json::from_str(&text(AVAILABLE)?).ok()?;
    let age = machine::clock() - available.at;
    let kept = seed::kept_in(&text(paths::SEED)?)?;
    let key = PassKey::parse(&text(&format!("{FOLDER}/{PASS_KEY}"))?)?;
    (age < DAYS).then_some(Line { at: kept.pass?, ticket: kept.ticket?, key })
}

fn tell(root: &Path, line: &Line) -> Result<(), FirstbootError> {
    let (begun, mut pause) = (Instant::now(), FIRST);
    let mut answered: Option<Account> = None;
    loop {
        let account = account::account(root)?;
        // What the line has judged isn't sent again, only something else.
        if account.says_more_than(answered.as_ref()) {
            let report = serde_json::to_vec(&account).map_err(FirstbootError::WriteReport)?;
            match send(line, &report) {
                Ok(Answer::Good) => {
                    durable::write_durable(root.join(HEARD.trim_start_matches('/')), b"good\n", 0o644)?;
                    log::info!("the line at {} has taken the report: good", line.at);
                    return Ok(());
                }
                Ok(answer) => {
                    log::info!("the line at {} has taken the report: {}", line.at, answer.word());
                    answered = Some(account);
                }
                Err(error) => log::info!("the line at {} wasn't told: {error}", line.at),
            }
        }
        if begun.elapsed() + pause > WHILE {
            log::info!("gave up telling the line at {}; {} on the boot partition says the same", line.at, NAME);
            return Ok(());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(MOST);
    }
}

/// One exchange: the report, and what the line answers.
fn send(line: &Line, report: &[u8]) -> io::Result<Answer> {
    if report.len() as u64 > LIMIT {
        return Err(io::Error::other("the report is too long"));
    }
    let mut stream = TcpStream::connect_timeout(&line.at, STEP)?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
    let head = Head::of(&line.key, &line.ticket, report);
    stream.write_all(head.line().as_bytes())?;
    stream.write_all(report)?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE)).read_line(&mut answer)?;
    head.answered(&line.key, &answer).ok_or_else(|| io::Error::other("its answer isn't that of the line"))
}
