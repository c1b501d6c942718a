//! What an operator types on the machine, besides what belongs to one step of the fitter: looking, and asking for more.
//!
//! Each command gives a table to a person and one JSON object a line to a program (`--json`), and ends with one of spec's
//! exit statuses. docs/commands.md has them all.

pub mod kubeconfig;
pub mod logs;
mod redact;
pub mod reset;
pub mod status;
pub mod stick;
pub mod support;

/// What can be typed.
pub const HELP: &str = "\
bakelite status                          how this machine is, what is wrong, who must act
bakelite logs [UNIT] [-f] [-n LINES]     what units have written; events and kernel are logs, too
bakelite logs [UNIT] --previous          the end of the boot before, and of what failed
bakelite facts | plan                    what is seen here; what would be done now, and why
bakelite version                         what runs here

bakelite config show [KEY] | edit | apply FILE | confirm | undo
bakelite storage promote | demote        move k3s's data to the data disk, or back to the card
bakelite retry                           try again what has failed too often

bakelite backup now | list | verify [SET] | drill
bakelite restore SET [--replaces ID]     put a backup in place; --dry-run says what would be lost
bakelite rekey [ID]                      a new token for a cluster whose own is lost
bakelite update [FILE] [--dry-run]       a signed bundle: a system, into which the machine restarts, or apps; - reads it from ssh
                                         (without FILE: what update.from names)
bakelite wear                            what is written to each medium, and how long it may last
bakelite kubeconfig [--server ADDRESS]   the administrator's: the key to the whole cluster
bakelite support [-o FILE | --stick]     a bundle without secrets for whoever helps; - is the standard output
bakelite reset --keep-identity | --everything [--yes NODE] [--no-backup]

--json, anywhere: one JSON object a line. Exit status: 0 well, 1 it isn't or could not be done, 2 wrong words or
settings, 3 not yet.
";
