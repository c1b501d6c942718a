//! What an operator types on the machine, besides what belongs to one step of the fitter: looking, and asking for more.
//!
//! Each command gives a table to a person and one JSON object a line to a program (`--json`), and ends with one of spec's
//! exit statuses. docs/commands.md has them all.

pub mod kubeconfig;
pub mod logs;
mod redact;
pub mod status;
pub mod support;
