//! The one place that waits: signals, readiness, output, devices, addresses and callers become inputs.
//!
//! Decides nothing; the only children it knows are the units' main processes, all others are reaped and forgotten.

use crate::output::Output;
use crate::supervise::State;
use bakelite_sys::kmsg::Ring;
use bakelite_sys::notify::{self, Message};
use bakelite_sys::{SysError, socket};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{Timespec, epoll};
use rustix::process::{WaitOptions, wait};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The socket that units say READY=1 to.
pub const NOTIFY: &str = "/run/bakelite/notify";
const SIGNALS: [Signal; 5] = [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];
const SIGNAL: u64 = 1;
const SAID: u64 = 2;
const CALLER: u64 = 3;
const DEVICE: u64 = 4;
const NETWORK: u64 = 5;
const KERNEL: u64 = 6;
const OUTPUTS: u64 = 100;

/// What came in.
#[derive(Debug)]
pub enum Input {
    /// A child ended: process, exit status, signal.
    Ended(u32, Option<i32>, Option<i32>),
    /// A process said something.
    Said(u32, Message),
    /// Somebody called on the control socket.
    Caller(OwnedFd),
    /// A block device came or went.
    BlockDevice,
    /// A device wants a module.
    Device(String),
    /// Messages about devices were lost: all of them have to be looked through.
    DevicesLost,
    /// Links, addresses or routes have changed.
    Network,
    /// New messages of the kernel's, a line each.
    Kernel(String),
    /// A signal for the machine.
    Signal(Signal),
}

/// All that is waited for.
pub struct Pump {
    poll: OwnedFd,
    signals: SignalFd,
    said: OwnedFd,
    callers: OwnedFd,
    devices: OwnedFd,
    network: OwnedFd,
    kernel: Option<Ring>,
    /// The units' outputs, in the order of the table.
    pub outputs: Vec<Output>,
}

fn system(act: &'static str) -> impl Fn(rustix::io::Errno) -> SysError {
    move |error| SysError::System { act, source: error.into() }
}

impl Pump {
    /// Opens everything but the messages about devices, which are listened for before devices are looked through.
    ///
    /// # Errors
    /// Where the kernel refuses a socket.
    pub fn new(state: &State, devices: OwnedFd) -> Result<Self, SysError> {
        let set: SigSet = SIGNALS.into_iter().collect();
        let signals = set
            .thread_block()
            .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
            .map_err(|error| SysError::System { act: "taking over signals", source: error.into() })?;
        let failed = system("waiting for events");
        let pump = Self {
            poll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(&failed)?,
            signals,
            said: notify::listen(Path::new(NOTIFY))?,
            callers: socket::control(Path::new(bakelite_spec::status::paths::CONTROL))?,
            devices,
            network: socket::network_changes()?,
            kernel: Ring::open(),
            outputs: state.units.iter().map(|live| Output::new(&live.unit.name)).collect(),
        };
        pump.watch(&pump.signals, SIGNAL)?;
        pump.watch(&pump.said, SAID)?;
        pump.watch(&pump.callers, CALLER)?;
        pump.watch(&pump.devices, DEVICE)?;
        pump.watch(&pump.network, NETWORK)?;
        if let Some(kernel) = &pump.kernel {
            pump.watch(kernel, KERNEL)?;
        }
        Ok(pump)
    }

    fn watch(&self, source: impl AsFd, token: u64) -> Result<(), SysError> {
        epoll::add(&self.poll, source, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
            .map_err(system("waiting for events"))
    }

    /// Makes the pipe for a unit's new process.
    ///
    /// # Errors
    /// Without free descriptors.
    pub fn begin_output(&mut self, number: usize) -> Result<OwnedFd, SysError> {
        let writer = self.outputs[number].begin()?;
        if let Some(pipe) = &self.outputs[number].pipe {
            self.watch(pipe, OUTPUTS + number as u64)?;
        }
        Ok(writer)
    }

    /// Waits for at most a time and returns what came in.
    pub fn wait(&mut self, limit: Duration) -> Vec<Input> {
        let mut events = [MaybeUninit::uninit(); 16];
        let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
        let tokens: Vec<u64> = match epoll::wait(&self.poll, &mut events[..], Some(&limit)) {
            Ok((events, _)) => events.iter().map(|event| event.data.u64()).collect(),
            Err(_) => Vec::new(),
        };
        let mut inputs = Vec::new();
        // What a unit has said and written before its end comes before its end.
        let mut reap = false;
        for token in tokens {
            match token {
                SIGNAL => reap = true,
                SAID => self.take_said(&mut inputs),
                CALLER => inputs.extend(socket::accept_root(&self.callers).map(Input::Caller)),
                DEVICE => self.take_devices(&mut inputs),
                KERNEL => inputs.extend(self.kernel.as_mut().map(|ring| Input::Kernel(ring.more()))),
                NETWORK => inputs.extend(socket::drain(&self.network).then_some(Input::Network)),
                token => {
                    if let Some(output) = usize::try_from(token - OUTPUTS).ok().and_then(|n| self.outputs.get_mut(n)) {
                        output.take();
                    }
                }
            }
        }
        if reap {
            while let Ok(Some(signal)) = self.signals.read_signal() {
                let signal = i32::try_from(signal.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
                inputs.extend(signal.filter(|signal| *signal != Signal::SIGCHLD).map(Input::Signal));
            }
            self.take_said(&mut inputs);
            self.outputs.iter_mut().for_each(Output::take);
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                let pid = pid.as_raw_nonzero().get().unsigned_abs();
                inputs.push(Input::Ended(pid, status.exit_status(), status.terminating_signal()));
            }
        }
        inputs
    }

    fn take_said(&self, inputs: &mut Vec<Input>) {
        while let Some((pid, messages)) = notify::receive(&self.said) {
            inputs.extend(messages.into_iter().map(|message| Input::Said(pid, message)));
        }
    }

    fn take_devices(&self, inputs: &mut Vec<Input>) {
        while let Some(event) = socket::receive_uevent(&self.devices) {
            let value = |name: &str| event.get(name).map(String::as_str);
            let comes = value("ACTION") == Some("add");
            let moves = comes || value("ACTION") == Some("remove");
            if event.is_empty() {
                inputs.extend([Input::DevicesLost, Input::BlockDevice]);
            }
            if moves && socket::is_of_disk(&event) {
                inputs.push(Input::BlockDevice);
            }
            if comes && let Some(alias) = value("MODALIAS") {
                inputs.push(Input::Device(alias.into()));
            }
        }
    }
}
