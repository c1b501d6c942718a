//! The pass over the network: a machine's own report, proved by a key that its seed brought.
//!
//! One connection carries one report: a line `bakelite-pass/v1 TICKET LENGTH MAC`, so many bytes, and a line as the answer.
//! The MAC is HMAC-SHA256 over what it is, the ticket and the report, so nobody else can speak for a machine; the answer has one over
//! its word and the report's MAC, so nobody else can tell a machine that it was heard. Nothing here is secret but the keys. A
//! message that is sent again says the same again. Where a line keeps a key of its own, a machine's is made from that and its
//! ticket: the line's record holds none.

use bakelite_spec::hexadecimal::{bytes, hexadecimal};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// With this word a message begins.
const MAGIC: &str = "bakelite-pass/v1";
/// The most that a report may have, in bytes.
pub const LIMIT: u64 = 256 << 10;
/// The most that a line may have, its end included.
pub const LINE: u64 = 256;
/// What is proved, so that a proof of one thing is none of another.
const REPORT: &str = "pass-report";
const ANSWER: &str = "pass-answer";
const MACHINE: &str = "pass-machine";

/// A key of 32 bytes: a line's own, or that of one machine.
#[derive(Clone, PartialEq, Eq)]
pub struct PassKey([u8; 32]);

impl fmt::Debug for PassKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PassKey")
    }
}

impl PassKey {
    /// A line's key, of the caller's random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// Reads a key's text; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        bytes(text.trim())?.try_into().ok().map(Self)
    }

    /// Its text, which is as secret as it is.
    pub fn to_text(&self) -> String {
        hexadecimal(self.0)
    }

    /// The key of the machine with a ticket, of a line's key.
    #[must_use]
    pub fn of_machine(&self, ticket: &str) -> Self {
        Self(self.mac(MACHINE, &[ticket.as_bytes()]).finalize().into_bytes().into())
    }

    fn mac(&self, kind: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        // A key counts as if zeros filled it to a block (RFC 2104).
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(format!("bakelite/{kind}/v1\0").as_bytes());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

/// A report's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The ticket of the machine's seed.
    pub ticket: String,
    /// The report's length in bytes.
    pub length: u64,
    mac: Vec<u8>,
}

impl Head {
    /// The head of a report.
    pub fn of(key: &PassKey, ticket: &str, report: &[u8]) -> Self {
        let mac = key.mac(REPORT, &[ticket.as_bytes(), report]).finalize().into_bytes().to_vec();
        Self { ticket: ticket.into(), length: report.len() as u64, mac }
    }

    /// Its line.
    pub fn line(&self) -> String {
        format!("{MAGIC} {} {} {}\n", self.ticket, self.length, hexadecimal(&self.mac))
    }

    /// Reads a line; `None` where it is none, or its report is too long.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.trim_end().split(' ');
        let (magic, ticket, length, mac) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let head = Self { ticket: ticket.into(), length: length.parse().ok()?, mac: bytes(mac)? };
        (magic == MAGIC && words.next().is_none() && head.length <= LIMIT).then_some(head)
    }

    /// Whether a report is what the machine with this key has sent.
    pub fn is_of(&self, key: &PassKey, report: &[u8]) -> bool {
        key.mac(REPORT, &[self.ticket.as_bytes(), report]).verify_slice(&self.mac).is_ok()
    }

    /// The line that answers it.
    pub fn answer(&self, key: &PassKey, answer: Answer) -> String {
        let mac = key.mac(ANSWER, &[answer.word().as_bytes(), &self.mac]).finalize().into_bytes();
        format!("{} {}\n", answer.word(), hexadecimal(mac))
    }

    /// What a line answers; `None` where it isn't by whom it was sent to.
    pub fn answered(&self, key: &PassKey, line: &str) -> Option<Answer> {
        let (word, mac) = line.trim_end().split_once(' ')?;
        let answer = Answer::ALL.into_iter().find(|answer| answer.word() == word)?;
        key.mac(ANSWER, &[word.as_bytes(), &self.mac]).verify_slice(&bytes(mac)?).ok().map(|()| answer)
    }
}

/// What a line makes of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The machine is good; it needn't report again.
    Good,
    /// It isn't yet.
    NotYet,
    /// It is recorded as bad; it may report again when it says something else.
    Bad,
}

impl Answer {
    const ALL: [Self; 3] = [Self::Good, Self::NotYet, Self::Bad];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::NotYet => "not-yet",
            Self::Bad => "bad",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machine_itself_can_report_and_only_its_line_can_answer() {
        let line = PassKey::new([7; 32]);
        let (own, other) = (line.of_machine("t-1"), line.of_machine("t-2"));
        assert_ne!(own, other);
        assert_eq!(PassKey::parse(&format!("{}\n", own.to_text())), Some(own.clone()));
        let head = Head::of(&own, "t-1", b"report");
        let read = Head::parse(&head.line()).unwrap();
        assert_eq!(read, head);
        assert!(read.is_of(&own, b"report"));
        assert!(!read.is_of(&own, b"rep0rt") && !read.is_of(&other, b"report"));
        let renamed = Head { ticket: "t-2".into(), ..read.clone() };
        assert!(!renamed.is_of(&own, b"report"), "the ticket is proved as well");
        for answer in Answer::ALL {
            let line = read.answer(&own, answer);
            assert_eq!(head.answered(&own, &line), Some(answer));
            assert_eq!(head.answered(&other, &line), None);
        }
        let swapped = read.answer(&own, Answer::Bad).replace("bad", "good");
        assert_eq!(head.answered(&own, &swapped), None);
        let later = Head::of(&own, "t-1", b"another report");
        assert_eq!(later.answered(&own, &read.answer(&own, Answer::Good)), None, "an answer is to one report");
        assert!(!format!("{own:?}{head:?}").contains(&own.to_text()));
    }

    #[test]
    fn what_is_no_head_is_none() {
        let head = Head::of(&PassKey::new([1; 32]), "t-1", b"x").line();
        for text in [
            "",
            "GET / HTTP/1.1",
            &head.replace("v1", "v2"),
            &format!("{} more", head.trim_end()),
            &head.replace(" 1 ", " 9999999 "),
            &head.replace(" 1 ", " -1 "),
            "bakelite-pass/v1 t-1 1 zz",
        ] {
            assert_eq!(Head::parse(text), None, "{text}");
        }
    }
}
