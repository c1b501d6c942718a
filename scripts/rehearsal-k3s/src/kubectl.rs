//! `kubectl`, as far as somebody outside needs it: a node patches the conditions in its own status, and one of them is read.
//!
//! There is no API here: the port is asked whether the server lives, and the node is changed where the datastore has it. Who
//! may do so is looked at as Kubernetes does, by the name in the certificate.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;
use serde_yaml::Value as Yaml;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::certificates::node_of;
use crate::datastore::Datastore;
use crate::error::go_words;
use crate::load::NODES;
use crate::objects::{Condition, Moment, conditions, with_conditions};
use crate::paths::Root;

/// The administrator's, where no other is named.
const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
const DATABASE: &str = "/var/lib/rancher/k3s/server/db/state.db";
/// What stands around the type and before the field in a path to one field of a condition.
const PATH: (&str, &str) = ("jsonpath={.status.conditions[?(@.type==\"", "\")].");

/// Does what the arguments of a tool say, as far as the stand-in has it.
pub fn run(tool: &str, arguments: &[String], root: &Root) -> ExitCode {
    let Some(call) = (tool == "kubectl").then(|| Call::read(arguments)).flatten() else {
        eprintln!("the rehearsal stand-in has no {}", [&[tool.to_owned()], arguments].concat().join(" "));
        return ExitCode::FAILURE;
    };
    match call.answer(root) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

enum Verb {
    Patch(String),
    Get { kind: String, field: String },
}

struct Call {
    kubeconfig: Option<String>,
    node: String,
    verb: Verb,
}

impl Call {
    fn read(arguments: &[String]) -> Option<Self> {
        let (mut words, mut options) = (Vec::new(), Vec::new());
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.strip_prefix('-') {
                None => words.push(argument.as_str()),
                Some(_) => match argument.split_once('=') {
                    Some((name, value)) => options.push((name, value)),
                    None => options.push((argument.as_str(), rest.next()?)),
                },
            }
        }
        let option = |names: &[&str]| options.iter().find(|(name, _)| names.contains(name)).map(|(_, value)| *value);
        let [verb, "node" | "nodes", node] = words[..] else { return None };
        let verb = match verb {
            "patch" if option(&["--subresource"]) == Some("status") && option(&["--type"]) == Some("strategic") => {
                Verb::Patch(option(&["-p", "--patch"])?.to_owned())
            }
            "get" => {
                let path = option(&["-o", "--output"])?.strip_prefix(PATH.0)?.strip_suffix('}')?;
                let (kind, field) = path.split_once(PATH.1)?;
                Verb::Get { kind: kind.to_owned(), field: field.to_owned() }
            }
            _ => return None,
        };
        Some(Self { kubeconfig: option(&["--kubeconfig"]).map(str::to_owned), node: node.to_owned(), verb })
    }

    fn answer(&self, root: &Root) -> Result<String, String> {
        let path = self.kubeconfig.as_ref().map_or_else(|| root.at(KUBECONFIG), PathBuf::from);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("error: stat {}: {}", path.display(), go_words(&error)))?;
        let config: Yaml = serde_yaml::from_str(&text).map_err(|error| format!("error: {error}"))?;
        let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap_or_default();
        reach(server.strip_prefix("https://").unwrap_or(server))?;
        let node = &self.node;
        if let Some(certificate) = config["users"][0]["user"]["client-certificate"].as_str() {
            let own = node_of(Path::new(certificate)).map_err(|error| format!("error: {error}"))?;
            if let Some(own) = own.filter(|own| own != node) {
                return Err(format!(
                    "Error from server (Forbidden): nodes \"{node}\" is forbidden: node \"{own}\" is not allowed to modify node \"{node}\""
                ));
            }
        }
        let internal = |error: rusqlite::Error| format!("Error from server: rpc error: code = Unknown desc = {error}");
        let datastore = Datastore::join(Datastore::ping(&root.at(DATABASE)).map_err(internal)?);
        let key = format!("{NODES}{node}");
        let Some(row) = datastore.value(&key).map_err(internal)? else {
            return Err(format!("Error from server (NotFound): nodes \"{node}\" not found"));
        };
        match &self.verb {
            Verb::Get { kind, field } => {
                let all = conditions(&row).map_err(|error| format!("error: {error}"))?;
                let found = all.iter().find(|condition| condition.kind == *kind);
                Ok(found.map(|condition| shown(condition, field)).unwrap_or_default())
            }
            Verb::Patch(patch) => {
                let new = wanted(patch)?;
                let changed = datastore.change(&key, |old| {
                    let old = old?;
                    with_conditions(old, &new).ok().filter(|row| row != old)
                });
                let word = if changed.map_err(internal)? { "" } else { " (no change)" };
                Ok(format!("node/{node} patched{word}\n"))
            }
        }
    }
}

fn reach(address: &str) -> Result<(), String> {
    match TcpStream::connect(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Err(format!("The connection to the server {address} was refused - did you specify the right host or port?"))
        }
        Err(error) => Err(format!("Unable to connect to the server: {}", go_words(&error))),
    }
}

fn shown(condition: &Condition, field: &str) -> String {
    match field {
        "status" => condition.status.clone(),
        "reason" => condition.reason.clone(),
        "message" => condition.message.clone(),
        _ => String::new(),
    }
}

/// The conditions in a patch of a status.
fn wanted(patch: &str) -> Result<Vec<Condition>, String> {
    let patch: Value =
        serde_json::from_str(patch).map_err(|error| format!("error: unable to parse \"{patch}\": {error}"))?;
    let moment = |value: &Value| {
        let time = OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()?;
        Some(Moment { seconds: time.unix_timestamp() })
    };
    let condition = |value: &Value| {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Condition {
            kind: text("type"),
            status: text("status"),
            heartbeat: moment(&value["lastHeartbeatTime"]),
            transition: moment(&value["lastTransitionTime"]),
            reason: text("reason"),
            message: text("message"),
        }
    };
    Ok(patch["status"]["conditions"].as_array().into_iter().flatten().map(condition).collect())
}
