//! The pass: what a machine's own report says of it. Pure but for the reading.
//!
//! A boot counts as good when the payload has been ready for two minutes (init), and a machine when all workloads were available
//! in one; a report without both, or with something that needs a person, isn't good. The ticket says which device of the
//! record it is; names may be patterns.

use super::device::Device;
use crate::baked::on_boot;
use crate::error::{FlashError, io_error};
use bakelite_disk::press::Target;
use bakelite_spec::account::{Account, NAME};
use bakelite_spec::installer::plain;
use bakelite_spec::seed::{self, Seed};
use serde::Serialize;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The names under which a machine's account is found, the one that counts first.
const REPORTS: [&str; 2] = [NAME, "report.new"];
/// The most that a report may be, in bytes.
const LIMIT: u64 = 4 << 20;

/// What a report comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The device is good.
    Good,
    /// It isn't good yet: why. It may report again.
    NotYet(String),
    /// It isn't good: why.
    Bad(String),
}

/// What a device has to be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The image that it was flashed with.
    pub image: &'a str,
    /// Whether that has a payload, with workloads to be available.
    pub has_payload: bool,
    /// The serial number of the board that its row is for, if it is for one.
    pub board: Option<&'a str>,
}

/// Judges a report of the device that has its ticket.
pub fn judge(account: &Account, device: &Device, wanted: &Wanted<'_>) -> Verdict {
    let Wanted { image, has_payload, board } = *wanted;
    let bad = |why: String| Verdict::Bad(why);
    if let Some(seed) = account.seed.as_ref().filter(|seed| !seed.refused.is_empty()) {
        return bad(format!("it refused its seed: {}", seed.refused));
    }
    if account.image != image {
        return bad(format!("it runs the image {}, and was flashed with {image}", account.image));
    }
    if !device.node.is_empty() && account.node != device.node {
        return bad(format!("it calls itself {}, and its row says {}", account.node, device.node));
    }
    if let Some(board) = board.filter(|board| !account.serial.is_empty() && plain(board) != plain(&account.serial)) {
        return bad(format!("it is the board {}, and its row is for {board}", account.serial));
    }
    if let Some(fault) = account.faults.first() {
        return bad(format!("{}: {}", fault.code, fault.what));
    }
    match &account.last_good {
        Some(good) if good.image == image => match &account.available {
            None if !has_payload => Verdict::Good,
            Some(available) if available.image == image => Verdict::Good,
            _ => Verdict::NotYet("its workloads haven't all been available so far".into()),
        },
        Some(good) => bad(format!("its last good boot was of the image {}", good.image)),
        None => Verdict::NotYet("none of its boots was good so far".into()),
    }
}

/// The report on a medium, or one that was brought as a file.
///
/// # Errors
/// When there is none.
pub fn report(path: &Path) -> Result<Account, FlashError> {
    let none = |why: String| FlashError::Line { path: path.into(), problem: why };
    let mut file = File::open(path).map_err(io_error("reading", path))?;
    let mut start = [0; 1];
    let count = file.read(&mut start).map_err(io_error("reading", path))?;
    let length = file.seek(SeekFrom::End(0)).map_err(io_error("reading", path))?;
    let bytes = if start[..count] == *b"{" && length <= LIMIT {
        std::fs::read(path).map_err(io_error("reading", path))?
    } else {
        let found = on_boot(&mut file, length, &REPORTS).map_err(|error| none(error.to_string()))?;
        found.ok_or_else(|| none("its machine has left no report on it: it never came up".into()))?
    };
    serde_json::from_slice(&bytes).map_err(|error| none(format!("its report can't be read: {error}")))
}

/// What a medium says of itself before it is touched.
#[derive(Clone, Debug, Default)]
pub struct OnIt {
    /// The ticket of the seed on it, taken or not.
    pub ticket: String,
    /// The report of its machine.
    pub account: Option<Account>,
}

/// Looks at a medium; what can't be read says nothing.
pub fn look(medium: &mut dyn Target) -> OnIt {
    let mut medium = medium;
    let Ok(length) = medium.length() else { return OnIt::default() };
    let mut on = |names: &[&str]| on_boot(&mut medium, length, names).ok().flatten();
    let account: Option<Account> = on(&REPORTS).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let reported = account.as_ref().and_then(|account| account.seed.as_ref()).map(|seed| seed.ticket.clone());
    let waiting = || Seed::parse(&on(&[seed::NAME])?).ok()?.ticket;
    let ticket = reported.filter(|ticket| !ticket.is_empty()).or_else(waiting).unwrap_or_default();
    OnIt { ticket, account }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, device};
    use bakelite_spec::account::FaultReport;

    #[test]
    fn a_device_is_good_when_its_own_report_says_so() {
        let image = crate::testing::IMAGE;
        let seed = Seed::parse(b"hostname: shop-1\nseed: {ticket: t-1}\n").unwrap();
        let good = Account { serial: "PF1".into(), ..account(&seed) };
        let device = device("shop-1");
        let judged = |change: &dyn Fn(&mut Account)| {
            let mut account = good.clone();
            change(&mut account);
            judge(&account, &device, &Wanted { image, has_payload: true, board: Some("pf-1") })
        };
        assert_eq!(judged(&|_| ()), Verdict::Good);
        assert!(matches!(judged(&|account| account.last_good = None), Verdict::NotYet(_)));
        assert!(
            matches!(judged(&|account| account.available = None), Verdict::NotYet(why) if why.contains("workloads"))
        );
        let without = Account { available: None, ..good.clone() };
        assert_eq!(judge(&without, &device, &Wanted { image, has_payload: false, board: None }), Verdict::Good);
        let of_before = |account: &mut Account| account.available.as_mut().unwrap().image = "i0".into();
        assert!(matches!(judged(&of_before), Verdict::NotYet(_)));
        let fault =
            FaultReport { code: "no-network".into(), who: "you".into(), what: "no cable".into(), hint: String::new() };
        type Change<'a> = &'a dyn Fn(&mut Account);
        let cases: [(Change<'_>, &str); 6] = [
            (&|account| account.image = "i0".into(), "runs the image i0"),
            (&|account| account.serial = "PF2".into(), "is the board PF2, and its row is for pf-1"),
            (&|account| account.node = "shop-2".into(), "calls itself shop-2"),
            (&|account| account.faults.push(fault.clone()), "no-network: no cable"),
            (&|account| account.seed.as_mut().unwrap().refused = "why".into(), "refused its seed: why"),
            (&|account| account.last_good.as_mut().unwrap().image = "i0".into(), "last good boot"),
        ];
        for (change, words) in cases {
            assert!(matches!(judged(change), Verdict::Bad(why) if why.contains(words)), "{words}");
        }
    }
}
