//! What the supervisor is told, and what it wants done.

use bakelite_spec::event::What;
use bakelite_spec::fault::Fault;
use bakelite_spec::status::LastStart;

/// What happened. Units by their number.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A unit's process runs.
    Started(usize, u32),
    /// A unit's process could not be started.
    NotStarted(usize, String),
    /// A unit's process ended: exit status, signal, and what its last words mean.
    Ended(usize, Option<i32>, Option<i32>, Option<Fault>),
    /// A unit said READY=1; what the payload has shrugged off before.
    Ready(usize, Option<Fault>),
    /// A unit said what it is doing.
    Says(usize, String),
    /// Whether a unit's port accepts connections.
    Port(usize, bool),
    /// What the payload, which isn't ready, says over and over again and nothing else; `None` where it does not.
    Deaf(usize, Option<Fault>),
    /// A block device came or went.
    Devices,
    /// The default address is another one.
    Address(Option<String>),
    /// Somebody asks over the control socket.
    Ask(Ask),
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Start a unit that was stopped or given up.
    Start(String),
    /// Stop a unit until it is asked for again.
    Stop(String),
    /// Stop and start a unit.
    Restart(String),
    /// Settings and settle again; the payload restarts only if a file it reads has changed.
    Refit,
    /// The same with settings that are undone unless somebody confirms them: takes the file of the trial away.
    Try,
}

/// What is to be done. Units by their number.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start its process; answered by `Started` or `NotStarted`.
    Start(usize),
    /// SIGTERM to its main process.
    Terminate(usize),
    /// SIGKILL to its main process.
    Kill(usize),
    /// SIGKILL to all that it left behind.
    KillGroup(usize),
    /// Look at its port; answered by `Port`.
    LookAtPort(usize, u16),
    /// Tell of it.
    Say(What),
    /// Write down how the payload's last start went.
    LastStart(LastStart),
    /// Use the last accepted settings, else the baked ones.
    FallBack,
    /// This boot is a good one.
    Good,
    /// A unit asks for a restart of the machine.
    Reboot(String),
    /// What is tried in this boot goes back to what ran before, for this reason.
    GoBack(String),
    /// Remove a file.
    Remove(&'static str),
}
