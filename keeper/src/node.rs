//! Telling the cluster: the node's conditions, by the `kubectl` that k3s brings along.
//!
//! A short child process beside the loop, one at a time, only when there is something to tell; if it fails, there is a growing
//! pause. It acts as the node itself, with the kubelet's own kubeconfig: that may change the status of its node and of no
//! other (Kubernetes' node authorizer and NodeRestriction), is the same on servers and agents, and isn't there where no
//! kubelet runs and so no node is to be told about.

use crate::conditions::{self, Told};
use bakelite_plan::{Settings, cluster};
use bakelite_spec::fault::Fault;
use bakelite_spec::records::Datastore;
use bakelite_spec::status::{LastStart, paths};
use bakelite_sys::{SysError, machine, read_text, tool, words};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The kubelet's own (k3s.md 3.1: agent/*.kubeconfig).
const KUBECONFIG: &str = "/var/lib/rancher/k3s/agent/kubelet.kubeconfig";
/// So long kubectl may take: it is a large program, and a card may be slow.
const LIMIT: Duration = Duration::from_secs(60);
/// So long it waits for the server's answer.
const REQUEST: &str = "--request-timeout=20s";
/// After the first failure, and at most: right after a start the node may not be registered yet.
const PAUSE: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(3600);

/// Who tells the cluster.
#[derive(Debug, Default)]
pub struct Teller {
    told: Told,
    running: Option<(JoinHandle<Result<(), SysError>>, Told)>,
    pause: Duration,
    not_before: Option<Instant>,
}

impl Teller {
    /// Tells what is to be told now, or looks how the last telling went. Never waits.
    pub fn tell(&mut self, settings: &Settings, faults: &[Fault]) {
        self.take_end();
        if self.running.is_some() || self.not_before.is_some_and(|not_before| Instant::now() < not_before) {
            return;
        }
        let Some(start) = ready_start() else { return };
        let has_database = cluster::datastore(settings) == Datastore::Sqlite;
        let wanted = conditions::conditions(faults, &settings.appliance.backup.every, has_database);
        let node = read_text(paths::HOSTNAME).unwrap_or_default().trim().to_string();
        if node.is_empty() || !Path::new(KUBECONFIG).exists() || !self.told.lacks(start, &wanted) {
            return;
        }
        let now = machine::clock();
        let then = self.told.then(start, &wanted, now);
        let (program, patch) = (settings.manifest.payload.program.clone(), then.patch(now).to_string());
        let telling = std::thread::Builder::new().name("kubectl".into()).spawn(move || {
            let subject = ["kubectl", "--kubeconfig", KUBECONFIG, REQUEST, "patch", "node", &node];
            let change = ["--subresource=status", "--type=strategic", "--patch", &patch];
            tool::must(&program, &[&subject[..], &change].concat(), LIMIT).map(drop)
        });
        match telling {
            Ok(handle) => self.running = Some((handle, then)),
            Err(error) => log::warn!("the cluster isn't told of its node's conditions: {error}"),
        }
    }

    /// Whether something is being told, so that the end is looked for soon.
    pub fn is_telling(&self) -> bool {
        self.running.is_some()
    }

    fn take_end(&mut self) {
        let Some((handle, then)) = self.running.take_if(|(handle, _)| handle.is_finished()) else { return };
        match handle.join() {
            Ok(Ok(())) => {
                log::info!("told the cluster of its node's conditions");
                (self.told, self.pause, self.not_before) = (then, Duration::ZERO, None);
            }
            Ok(Err(error)) => {
                self.pause = (self.pause * 2).clamp(PAUSE, LONGEST);
                self.not_before = Some(Instant::now() + self.pause);
                log::info!(
                    "the cluster isn't told of its node's conditions, again in {} s: {}",
                    self.pause.as_secs(),
                    words(&error)
                );
            }
            Err(_) => self.not_before = Some(Instant::now() + LONGEST),
        }
    }
}

/// The start of k3s that is ready and goes on, by init's seconds.
fn ready_start() -> Option<f64> {
    let start = serde_json::from_str::<LastStart>(&read_text(paths::LAST_START).ok()?).ok()?;
    (start.ready_at.is_some() && start.ended.is_none()).then_some(start.started)
}
