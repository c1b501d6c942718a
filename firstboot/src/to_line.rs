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

/// The ticket with which the line has taken this machine's report as good.
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
    let available: Available = serde_json::from_str(&text(AVAILABLE)?).ok()?;
    let age = machine::clock() - available.at;
    let kept = seed::kept_in(&text(paths::SEED)?)?;
    let key = PassKey::parse(&text(&format!("{FOLDER}/{PASS_KEY}"))?)?;
    let line = Line { at: kept.pass?, ticket: kept.ticket?, key };
    (age < DAYS && text(HEARD).as_ref() != Some(&line.ticket)).then_some(line)
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
                    durable::write_durable(root.join(HEARD.trim_start_matches('/')), line.ticket.as_bytes(), 0o644)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{machine as made, write};
    use bakelite_spec::account::Acknowledged;
    use std::net::TcpListener;

    const KEY: [u8; 32] = [7; 32];

    /// A machine that has come up, with the seed of a line.
    fn come_up(at: SocketAddr, available: i64) -> tempfile::TempDir {
        let root = made("k3s: rehearsal\n");
        write(root.path(), paths::SEED, &format!("{{\"seed\":{{\"ticket\":\"t-1\",\"pass\":\"{at}\"}}}}"));
        write(root.path(), AVAILABLE, &format!("{{\"at\":{available},\"image\":\"\",\"workloads\":[]}}"));
        write(root.path(), &format!("{FOLDER}/{PASS_KEY}"), &PassKey::new(KEY).to_text());
        root
    }

    /// Hears one report and answers with a key; what was heard, where it is proved.
    fn hear(listener: TcpListener, answers: PassKey, answer: Answer) -> std::thread::JoinHandle<Option<Account>> {
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let head = Head::parse(&line).unwrap();
            let mut report = vec![0; head.length as usize];
            reader.read_exact(&mut report).unwrap();
            (&stream).write_all(head.answer(&answers, answer).as_bytes()).unwrap();
            head.is_of(&PassKey::new(KEY), &report).then(|| serde_json::from_slice(&report).unwrap())
        })
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        (listener, at)
    }

    #[test]
    fn the_line_hears_a_report_that_is_proved_and_then_no_more() {
        let (listener, at) = listener();
        let root = come_up(at, machine::clock());
        let to = line(root.path()).unwrap();
        let heard = hear(listener, PassKey::new(KEY), Answer::Good);
        tell(root.path(), &to).unwrap();
        let account = heard.join().unwrap().unwrap();
        assert_eq!(account.seed, Some(Acknowledged { ticket: "t-1".into(), ..Acknowledged::default() }));
        assert!(account.available.is_some());
        assert!(line(root.path()).is_none(), "it was heard");
    }

    #[test]
    fn an_answer_of_somebody_else_is_none_and_nobody_there_is_an_error() {
        let (listener, at) = listener();
        let to = Line { at, ticket: "t-1".into(), key: PassKey::new(KEY) };
        let heard = hear(listener, PassKey::new([8; 32]), Answer::Good);
        let report = serde_json::to_vec(&Account::default()).unwrap();
        assert!(send(&to, &report).unwrap_err().to_string().contains("isn't that of the line"));
        heard.join().unwrap();
        assert!(send(&to, &report).is_err(), "nobody listens any more");
        assert!(send(&to, &vec![b' '; LIMIT as usize + 1]).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn without_a_line_or_after_some_days_nobody_is_told() {
        let at = "192.0.2.1:7411".parse().unwrap();
        assert!(line(come_up(at, machine::clock()).path()).is_some());
        assert!(line(come_up(at, machine::clock() - DAYS).path()).is_none());
        for lacks in [paths::SEED, AVAILABLE, "/var/lib/bakelite/secrets/bakelite.pass"] {
            let root = come_up(at, machine::clock());
            durable::remove_file(root.path().join(lacks.trim_start_matches('/'))).unwrap();
            assert!(line(root.path()).is_none(), "{lacks}");
        }
    }
}
