//! `bakelite run`: an image as a whole machine in QEMU: on this terminal, or told as events until it is ready.

use crate::arguments::{Run, Start, Until};
use crate::progress::Screen;
use bakelite_spec::event::{UnitState, What};
use bakelite_spec::quantity::Size;
use bakelite_vm::machine::Medium;
use bakelite_vm::{Bus, Disk, Firmware, Machine, Network, Report, Running, VmError};
use std::time::Duration;

/// How long a machine may take to go down in order.
const GO_DOWN: Duration = Duration::from_secs(120);

/// What comes of it: whether what was waited for has happened.
pub fn run(arguments: &Run, screen: &Screen) -> Result<bool, VmError> {
    let machine = machine(arguments)?;
    match arguments.until {
        None => Ok(bakelite_vm::run_interactive(&machine)?.success()),
        Some(_) if !machine.tells_events()? => Err(VmError::NoEvents),
        Some(until) => {
            let folder = tempfile::tempdir().map_err(VmError::Prepare)?;
            let mut running = Running::start(&machine, &folder.path().join("console"), None)?;
            let (accelerator, memory) = (running.accelerator().name(), machine.memory);
            screen.line(&format!("   0.0 s  power on ({accelerator}, {memory} MiB)"));
            let reached = follow(&mut running, until, Duration::from_secs(arguments.seconds), screen);
            if let (true, Some(seconds)) = (reached, arguments.then) {
                watch_writes(&mut running, Duration::from_secs(seconds), screen)?;
            }
            // What is kept is left as an orderly end leaves it; of a snapshot nothing is left.
            if reached && machine.medium == Medium::Image && !go_down(&mut running)? {
                screen.detail("it didn't go down in order in time and was switched off");
            }
            Ok(reached)
        }
    }
}

fn machine(arguments: &Run) -> Result<Machine, VmError> {
    let (bus, size) = match arguments.medium.split_once(':') {
        Some((bus, size)) => (bus, Size::parse(size)),
        None => (arguments.medium.as_str(), Some(Size(bakelite_vm::machine::DEFAULT_SIZE))),
    };
    let wrong = || VmError::DiskWords(arguments.medium.clone());
    Ok(Machine {
        memory: arguments.memory,
        firmware: match arguments.start {
            Start::Uefi => Firmware::Uefi { secure_boot: false },
            Start::SecureBoot => Firmware::Uefi { secure_boot: true },
            Start::Direct => Firmware::Direct,
        },
        medium: if arguments.persist { Medium::Image } else { Medium::Copy },
        bus: Bus::parse(bus).ok_or_else(wrong)?,
        size: size.ok_or_else(wrong)?.0,
        disks: arguments.disks.iter().map(|words| Disk::parse(words)).collect::<Result<_, _>>()?,
        network: Network::parse(&arguments.net)?,
        kernel_arguments: arguments.append.clone(),
        ..Machine::new(&arguments.image)
    })
}

/// Tells events as they come, until the wanted one, the machine's end, or the time is up.
fn follow(running: &mut Running, until: Until, limit: Duration, screen: &Screen) -> bool {
    while let Some(left) = limit.checked_sub(running.elapsed()) {
        let Some(seen) = running.next(left) else { break };
        let at = seen.at.as_secs_f64();
        match seen.report {
            Report::Event(event) => {
                if screen.json {
                    screen.value(&serde_json::json!({ "at": at, "report": event }));
                } else if let Some(text) = words(&event.what) {
                    screen.line(&format!("{at:6.1} s  {text}"));
                }
                let reached = match until {
                    Until::Ready => matches!(event.what, What::Ready { .. }),
                    Until::Good => matches!(event.what, What::Good),
                };
                if reached {
                    return true;
                }
            }
            Report::Ended => break,
            Report::Machine { .. } | Report::Foreign(_) => {}
        }
    }
    let console = running.console_text();
    let lines: Vec<&str> = console.lines().collect();
    screen.detail(&format!("it didn't get there in {:.0} s; the end of its console:", running.elapsed().as_secs_f64()));
    lines[lines.len().saturating_sub(30)..].iter().for_each(|line| screen.detail(line));
    false
}

/// Lets time pass, and tells what was written to each medium in it.
fn watch_writes(running: &mut Running, time: Duration, screen: &Screen) -> Result<(), VmError> {
    let before = running.bytes_written()?;
    std::thread::sleep(time);
    for (medium, bytes) in running.bytes_written()? {
        let written = bytes - before.get(&medium).copied().unwrap_or(0);
        let seconds = time.as_secs();
        if screen.json {
            screen.value(&serde_json::json!({ "medium": medium, "written": written, "seconds": seconds }));
        } else {
            screen.line(&format!("{medium}: {} written in {seconds} s", Size(written).human()));
        }
    }
    Ok(())
}

/// Has the machine go down in order; whether it did, before the time was up.
fn go_down(running: &mut Running) -> Result<bool, VmError> {
    let limit = running.elapsed() + GO_DOWN;
    running.press_keys_for_reboot()?;
    while let Some(left) = limit.checked_sub(running.elapsed()) {
        match running.next(left).map(|seen| seen.report) {
            Some(Report::Machine { event, .. }) if event == "RESET" => return Ok(true),
            Some(Report::Ended) | None => break,
            Some(_) => {}
        }
    }
    Ok(false)
}

/// An event as a person reads it; those that only a program needs have no words.
fn words(what: &What) -> Option<String> {
    Some(match what {
        What::Init { version, image } => format!("kernel is up, init {version} starts (image {image})"),
        What::Slot { slot, disk } => format!("system {slot} found on {disk}, checked and mounted"),
        What::Effect { text } => text.clone(),
        What::Step { step, why, .. } => format!("{step}: {why}"),
        What::Unit { unit, state, detail } => match state {
            UnitState::Running => format!("{unit} runs"),
            UnitState::Failed => format!("{unit} failed: {detail}"),
            UnitState::GivenUp => format!("{unit} is given up: {detail}"),
            _ => return None,
        },
        What::Address { link, address } if address.is_empty() => format!("no address any more ({link})"),
        What::Address { link, address } => format!("address {address} on {link}"),
        What::Ready { payload } => format!("READY: {payload}"),
        What::Good => "this boot counts as good".into(),
        What::Fault(fault) => format!("WRONG: {} ({}; {})", fault.text, fault.code.name(), fault.who.words()),
        What::Shutdown { action, why } => format!("{action}: {why}"),
    })
}
