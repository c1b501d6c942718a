//! What becomes of what the hardware ails: faults for the screen and status.json, and for a USB disk that can't do UAS the
//! kernel argument without which it is reset for ever. The light shows whether somebody has to act.

use super::Running;
use super::watch::needs_human;
use crate::ailing::Ail;
use crate::light::Shows;
use crate::supervise::{Ask, Event};
use bakelite_spec::event::What;
use bakelite_spec::fault::{Code, Fault};
use bakelite_spec::records::{FORMAT, USB_QUIRKS, UsbQuirks};
use bakelite_sys::{SysError, block, durable, machine, read_text};
use std::path::Path;

impl Running {
    /// Takes the kernel's new messages.
    pub(super) fn hear(&mut self, lines: &str) {
        for ail in self.ailing.hear(lines) {
            match ail {
                Ail::Fault(fault) if fault.code == Code::PowerLow => self.ails("power", Some(fault)),
                Ail::Fault(fault) => self.ails("throttled", Some(fault)),
                Ail::Resets(place) => self.storm(&place),
            }
        }
    }

    /// Looks at the thermometer, where the board's firmware acts by it.
    pub(super) fn look_at_heat(&mut self) {
        let Some(limit) = self.baked.manifest.board.throttles_at else { return };
        let Some(degrees) = machine::degrees(Path::new("/")) else { return };
        let fault = self.ailing.heat(degrees, limit);
        self.ails("hot", fault);
    }

    fn ails(&mut self, key: &'static str, fault: Option<Fault>) {
        let Some(fault) = fault else {
            self.own.remove(key);
            return;
        };
        if self.own.get(key) != Some(&fault) {
            self.journal.say(What::Fault(fault.clone()));
            self.own.insert(key, fault);
        }
    }

    fn storm(&mut self, place: &str) {
        let Some(device) = block::usb_device(Path::new("/"), place) else { return };
        let text = format!("the USB device {} at {place} is reset again and again", device.number);
        let noted = device.is_uas.then(|| note(&device.number));
        self.ails("resets", Some(Fault::new(Code::UsbResets, text)));
        match noted {
            None | Some(Ok(false)) => {}
            // firstboot puts it among the kernel's arguments, and asks for the one restart.
            Some(Ok(true)) => self.feed(Event::Ask(Ask::Refit)),
            Some(Err(error)) => log::warn!("{}", bakelite_sys::words(&error)),
        }
    }

    /// Has the light show the state.
    pub(super) fn shine(&mut self) {
        self.light.show(match (needs_human(&self.status.faults), self.status.ready_at) {
            (true, _) => Shows::NeedsHuman,
            (false, Some(_)) => Shows::Working,
            (false, None) => Shows::Starting,
        });
    }
}

/// Notes that a bridge is to be driven without UAS; whether that is news. What was noted before has not helped.
fn note(device: &str) -> Result<bool, SysError> {
    let mut record = UsbQuirks::parse(&read_text(USB_QUIRKS).unwrap_or_default());
    record.format = FORMAT;
    if !record.quirks.insert(format!("{device}:u")) {
        return Ok(false);
    }
    durable::write_durable(USB_QUIRKS, &serde_json::to_vec(&record).unwrap_or_default(), 0o644)?;
    Ok(true)
}
