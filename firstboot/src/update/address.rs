//! The bundle at `update.from`: its head is read each hour while the window is open, and the rest only where it is wanted.
//!
//! Debian's curl fetches it: it has TLS, and a libc that resolves names. What it writes is read as any bundle is, and never
//! stored; where the head says that nothing is wanted, it is ended, so that an hour costs some hundred kilobytes. Nobody
//! who answers is no fault. What failed after its head isn't fetched again for a day, as with sticks ([`super::unasked`]):
//! it has filled a slot already.

use super::attempt::Attempt;
use super::unasked::{Known, Verdict};
use super::{Tell, fits, take_in};
use crate::disks::Looked;
use crate::error::FirstbootError;
use crate::probe;
use bakelite_plan::Settings;
use bakelite_plan::facts::Facts;
use bakelite_plan::update::window;
use bakelite_spec::bundle::Bundle;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::status::paths;
use bakelite_spec::update::LOCK;
use bakelite_sys::tool::{self, Ended, Stream};
use bakelite_sys::{SysError, environment, lock, words};
use bakelite_trust::bundle;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::time::Duration;

pub use bakelite_plan::update::window::LONGEST;

/// Debian's; in images whose appliance has `update.from`.
const CURL: &str = "/usr/bin/curl";
/// curl's exit statuses that say that nobody answers: no name, no connection, no proxy, no time, nothing said (curl(1)).
const NOBODY: &[i32] = &[5, 6, 7, 28, 52, 55, 56, 97];
/// Its status where TLS didn't come about, for whatever reason.
const NO_TLS: i32 = 35;

/// The word by which this program asks.
pub const WORD: &str = "ask";
/// So long that may take: the fetching, and then a rehearsal and a backup on a slow card.
const LIMIT: Duration = Duration::from_secs(2 * LONGEST);

/// A bundle on its way.
#[derive(Debug)]
pub struct Coming {
    from: String,
    stream: Stream,
    ended: Option<Ended>,
}

impl Coming {
    /// Asks for it; fetching may take so many seconds.
    ///
    /// # Errors
    /// When there is no curl, or it can't be started.
    pub fn begin(from: &str, longest: u64) -> Result<Self, FirstbootError> {
        let longest = longest.to_string();
        let words: [&[&str]; 3] = [
            &["--silent", "--show-error", "--fail", "--globoff", "--proto", "=http,https", "--location"],
            &["--max-redirs", "5", "--connect-timeout", "30", "--max-time", &longest],
            // A server that falls silent must not hold the watch up for hours.
            &["--speed-limit", "64", "--speed-time", "120", "--url", from],
        ];
        // curl takes a proxy for http:// by this name in small letters only (curl(1)).
        let mut proxy = environment::read(&[paths::PROXY_ENVIRONMENT]);
        if let Some(http) = proxy.remove("HTTP_PROXY") {
            proxy.insert("http_proxy".into(), http);
        }
        match tool::stream(CURL, &words.concat(), &proxy) {
            Ok(stream) => Ok(Self { from: from.into(), stream, ended: None }),
            Err(SysError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let why = "this image has no curl to fetch from `update.from` with; `update.from` has to be in the appliance that an image is built of";
                Err(FirstbootError::NotUpdated(why.into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How curl ended; one that still runs is ended.
    fn end(&mut self) -> Result<&Ended, SysError> {
        let ended = match self.ended.take() {
            Some(ended) => ended,
            None => self.stream.end()?,
        };
        Ok(self.ended.insert(ended))
    }

    /// Why curl ended by itself before all was there; `None` where it didn't.
    fn failure(&mut self) -> Option<(i32, String)> {
        let ended = self.end().ok()?;
        let status = ended.status.filter(|status| *status != 0)?;
        Some((status, last_words(&ended.text()).into()))
    }

    /// The same, with the reason where it lies in the fetching.
    ///
    /// # Errors
    /// Those that it was given.
    pub fn or_why(&mut self, went: Result<(), FirstbootError>) -> Result<(), FirstbootError> {
        went.map_err(|error| match self.failure() {
            Some((_, said)) => FirstbootError::NotUpdated(format!("fetching {} failed: {said}", self.from)),
            None => error,
        })
    }
}

impl Read for Coming {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read(bytes)
    }
}

/// What is read is kept.
struct Keeping<R> {
    input: R,
    kept: Vec<u8>,
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(bytes)?;
        self.kept.extend_from_slice(&bytes[..read]);
        Ok(read)
    }
}

/// What came of a question.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// There is nothing to do.
    Nothing,
    /// Nobody has answered, for this reason.
    Nobody(String),
    /// What is there isn't taken, for this reason.
    Refused(String),
}

/// Takes what is on its way; `kept` is what was read of it already.
///
/// # Errors
/// When it isn't taken; where that lies in the fetching, its reason.
pub fn take_it(
    root: &Path,
    coming: &mut Coming,
    kept: Vec<u8>,
    facts: &Facts,
    settings: &Settings,
    tell: Tell<'_>,
) -> Result<(), FirstbootError> {
    let attempt = Attempt::new(root)?;
    let went = take_in(&attempt, Cursor::new(kept).chain(&mut *coming), facts, settings, tell);
    attempt.end(coming.or_why(went))
}

/// Has a program of its own [`look`], and waits for it: what is wrong with what is there, or `None` where that isn't known.
pub fn ask_apart() -> Option<Vec<Fault>> {
    let program = format!("{}/firstboot", paths::LIBRARY);
    let asked = tool::must(&program, &[WORD], LIMIT);
    let ended = asked.inspect_err(|error| log::warn!("asking at `update.from`: {}", words(error))).ok()?;
    serde_json::from_slice(&ended.output).ok().flatten()
}

/// Asks, and takes what fits; what is wrong with what is there, or `None` where that isn't known.
pub fn look(settings: &Settings) -> Option<Vec<Fault>> {
    let Some(from) = &settings.appliance.update.from else { return Some(Vec::new()) };
    let root = Path::new("/");
    let facts = probe::facts(root, &Looked::by_early(root), 0);
    if let Some(why) = window::waits(&facts, settings) {
        log::info!("what {from} has isn't looked at: {why}");
        return None;
    }
    // Whoever writes one is told of what becomes of it.
    drop(lock::try_take(Path::new(LOCK)).ok().flatten()?);
    let longest = window::left(&facts, settings);
    let known = Known::of(&facts, settings, false);
    let take = |coming: &mut Coming, kept| take_it(root, coming, kept, &facts, settings, &|text| log::info!("{text}"));
    let fits = |bundle: &Bundle| fits(root, bundle, &facts, settings);
    let asked =
        Coming::begin(from, longest).map(|coming| ask(coming, &settings.appliance.owner.keys, &known, fits, take));
    match asked.unwrap_or_else(|error| Asked::Refused(words(&error))) {
        Asked::Nothing => Some(Vec::new()),
        Asked::Nobody(why) => {
            log::info!("{from} doesn't answer: {why}");
            None
        }
        Asked::Refused(why) => {
            Some(vec![Fault::new(Code::UpdateRefused, format!("the bundle at {from} isn't taken: {why}"))])
        }
    }
}

fn ask(
    mut coming: Coming,
    owners: &[String],
    known: &Known,
    fits: impl Fn(&Bundle) -> Result<(), String>,
    take: impl FnOnce(&mut Coming, Vec<u8>) -> Result<(), FirstbootError>,
) -> Asked {
    let mut keeping = Keeping { input: &mut coming, kept: Vec::new() };
    let head = bundle::manifest(owners, &mut keeping);
    let kept = keeping.kept;
    let bundle = match head {
        Ok(bundle) => bundle,
        Err(error) => {
            return match coming.failure() {
                Some((status, said)) if is_nobody(status, &said) => Asked::Nobody(said),
                Some((_, said)) => Asked::Refused(said),
                None => Asked::Refused(words(&error)),
            };
        }
    };
    match known.judge(&bundle, fits) {
        Verdict::Runs => return Asked::Nothing,
        Verdict::Refused(why) | Verdict::Failed(why) => return Asked::Refused(why),
        Verdict::Fits => {}
    }
    log::info!("{} is at {}, and fits", bundle.words(), coming.from);
    take(&mut coming, kept).map_or_else(|error| Asked::Refused(words(&error)), |()| Asked::Nothing)
}

/// What curl says in its last words, without its name and status; advice comes behind it.
fn last_words(text: &str) -> &str {
    let found = text.lines().find_map(|line| line.strip_prefix("curl: (")?.split_once(") "));
    found.map_or(text.trim_end(), |(_, said)| said)
}

/// Whether curl's end says that nobody answers. One who speaks no TLS, or another one, does: OpenSSL then has an error to tell
/// of, other than that the connection has ended.
fn is_nobody(status: i32, said: &str) -> bool {
    match status {
        NO_TLS => !said.contains("error:") || said.contains("unexpected eof"),
        _ => NOBODY.contains(&status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakelite_spec::bundle::{FORMAT, INITRAMFS, KERNEL, Part, ROOT, SYSTEM};
    use bakelite_spec::hexadecimal::hexadecimal;
    use bakelite_spec::tried::{End, Tried};
    use bakelite_trust::keys::OwnerKeys;
    use sha2::{Digest, Sha256};
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};

    const IMAGE: &str = "new";

    fn owner() -> OwnerKeys {
        OwnerKeys::generate([1; 32])
    }

    /// A bundle of some size, signed by the owner.
    fn bundle() -> Vec<u8> {
        let content = |name: &str| name.as_bytes().repeat(100_000);
        let part = |name: &str| {
            let (size, sha256) = (content(name).len() as u64, hexadecimal(Sha256::digest(content(name))));
            Part { name: name.into(), size, sha256, ..Part::default() }
        };
        let parts = [KERNEL, INITRAMFS, ROOT].map(part).to_vec();
        let bundle = Bundle { format: FORMAT, kind: SYSTEM.into(), image: IMAGE.into(), parts, ..Bundle::default() };
        bundle::write(&bundle, &owner(), |part| Ok(Box::new(Cursor::new(content(&part.name)))), Vec::new()).unwrap()
    }

    fn answer(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    /// Serves one answer to each question; the address.
    fn serve(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut asked = [0; 4096];
                // Whoever doesn't want the rest goes away.
                let _ = stream.read(&mut asked).and_then(|_| stream.write_all(&answer));
            }
        });
        format!("http://127.0.0.1:{port}/shop.bundle")
    }

    /// Asks; with it what was taken, if anything was.
    fn asked(from: &str, known: &Known) -> (Asked, Option<Vec<u8>>) {
        let mut taken = None;
        let asked = ask(
            Coming::begin(from, 60).unwrap(),
            &[owner().owner_key()],
            known,
            |_| Ok(()),
            |coming, kept| {
                let all = taken.insert(Vec::new());
                let take = |_: &Bundle, _: &Part, input: &mut dyn Read| {
                    input
                        .read_to_end(all)
                        .map(drop)
                        .map_err(|source| SysError::Read { path: "it".into(), source }.into())
                };
                let input = Cursor::new(kept).chain(&mut *coming);
                let went = bundle::read::<FirstbootError>(&[owner().owner_key()], input, |_| Ok(()), take);
                coming.or_why(went.map(drop))
            },
        );
        (asked, taken)
    }

    fn is_skipped() -> bool {
        let missing = !Path::new(CURL).exists();
        if missing {
            println!("SKIPPED: no {CURL} here");
        }
        missing
    }

    #[test]
    fn what_is_wanted_is_read_whole_and_what_runs_by_its_head_alone() {
        if is_skipped() {
            return;
        }
        let bytes = bundle();
        let from = serve(answer("200 OK", bytes.len(), &bytes));
        let (said, taken) = asked(&from, &Known::default());
        assert_eq!((said, taken.map(|all| all.len())), (Asked::Nothing, Some(2_800_000)));
        // It claims to go on for ever, and nobody waits for it.
        let from = serve(answer("200 OK", usize::MAX >> 1, &bytes));
        let known = Known { runs: vec![IMAGE.into()], ..Known::default() };
        assert_eq!(asked(&from, &known), (Asked::Nothing, None));
        let known = Known { went_back: vec![IMAGE.into()], ..Known::default() };
        let (said, taken) = asked(&from, &known);
        assert!(matches!(said, Asked::Refused(why) if why.contains("went back")) && taken.is_none());
    }

    #[test]
    fn what_is_no_bundle_is_told_and_nobody_is_no_fault() {
        if is_skipped() {
            return;
        }
        let refused = |from: &str| match asked(from, &Known::default()) {
            (Asked::Refused(why), None) => why,
            other => panic!("{other:?}"),
        };
        assert!(refused(&serve(answer("404 Not Found", 4, b"none"))).contains("404"));
        assert!(refused(&serve(answer("200 OK", 2000, &[b' '; 2000]))).contains("it is no bundle"));
        let bytes = bundle();
        let cut = refused(&serve(answer("200 OK", bytes.len(), &bytes[..700])));
        assert!(cut.contains("bytes"), "{cut}");
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let from = format!("http://127.0.0.1:{closed}/shop.bundle");
        let said = asked(&from, &Known::default());
        assert!(matches!(&said, (Asked::Nobody(_), None)), "{said:?}");
        // A server that has no TLS answers; one that is gone in the middle of it doesn't, in the words of either curl.
        let plain = serve(answer("400 Bad Request", 0, b"")).replace("http:", "https:");
        assert!(refused(&plain).contains("wrong version number"));
        let said = asked(&serve(Vec::new()).replace("http:", "https:"), &Known::default());
        assert!(matches!(&said, (Asked::Nobody(_), None)), "{said:?}");
        assert!(is_nobody(35, "TLS connect error: error:0A000126:SSL routines::unexpected eof while reading"));
    }

    #[test]
    fn of_curls_words_the_reason_is_told_and_not_its_advice() {
        let said = "curl: (60) SSL certificate problem: it expired\nMore details here: x\n\nTo learn more, visit it.\n";
        assert_eq!(last_words(said), "SSL certificate problem: it expired");
        assert_eq!(last_words("something else\n"), "something else");
    }

    #[test]
    fn what_was_cut_off_after_its_head_is_left_alone_for_a_day() {
        if is_skipped() {
            return;
        }
        let (bytes, mut known) = (bundle(), Known::default());
        let from = serve(answer("200 OK", bytes.len(), &bytes[..bytes.len() / 2]));
        let (said, taken) = asked(&from, &known);
        assert!(matches!(&said, Asked::Refused(why) if why.contains("shop.bundle failed: ")), "{said:?}");
        assert!(taken.is_some());
        let head = bundle::manifest(&[owner().owner_key()], &bytes[..]).unwrap();
        let tried = known.memory.begin(&head.image, &bundle::digest(&head), head.words());
        known.memory.tried.note(Tried { end: End::Failed, ..tried });
        let (said, taken) = asked(&from, &known);
        assert!(matches!(&said, Asked::Refused(why) if why.contains("after a day")) && taken.is_none(), "{said:?}");
    }
}
