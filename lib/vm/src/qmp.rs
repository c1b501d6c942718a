//! QEMU's control socket (docs/interop/qmp-spec): commands and their answers; its own events go to whoever listens.

use crate::error::VmError;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const ANSWER_TIME: Duration = Duration::from_secs(20);

/// The socket.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    answers: Receiver<Value>,
}

impl Qmp {
    /// Starts talking; `listen` gets each event of QEMU, and `None` when it hangs up.
    pub fn start(stream: UnixStream, listen: impl FnMut(Option<Value>) + Send + 'static) -> Result<Self, VmError> {
        let (sender, answers) = channel();
        let reader = stream.try_clone().map_err(VmError::Prepare)?;
        std::thread::spawn(move || read(reader, &sender, listen));
        let mut qmp = Self { stream, answers };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Gives a command and waits for its answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, VmError> {
        let refused = |problem: String| VmError::Refused { act: command.into(), problem };
        let line = json!({"execute": command, "arguments": arguments}).to_string();
        self.stream.write_all(line.as_bytes()).map_err(|error| refused(error.to_string()))?;
        let answer = self.answers.recv_timeout(ANSWER_TIME).map_err(|error| refused(error.to_string()))?;
        match answer.get("return") {
            Some(value) => Ok(value.clone()),
            None => Err(refused(answer["error"]["desc"].as_str().unwrap_or("no reason given").into())),
        }
    }
}

fn read(stream: UnixStream, answers: &Sender<Value>, mut listen: impl FnMut(Option<Value>)) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
        if value.get("event").is_some() {
            listen(Some(value));
        } else if value.get("QMP").is_none() && answers.send(value).is_err() {
            break;
        }
    }
    listen(None);
}
