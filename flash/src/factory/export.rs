//! The record as CSV or JSON, for whoever works with it further. What was written and never came up counts as failed.

use super::device::{Device, State};
use crate::error::FlashError;
use serde::Serialize;
use std::path::Path;

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A header and a line for each attempt.
    Csv,
    /// A list of objects.
    Json,
}

/// An attempt with what it comes to.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    verdict: &'static str,
    #[serde(flatten)]
    device: &'a Device,
}

/// What an attempt comes to, as a word.
pub fn verdict(device: &Device) -> &'static str {
    match device.state {
        State::Passed => "good",
        State::Written => "failed: never came up",
        State::Rejected => "failed: its own report says so",
        State::Lost => "failed: may boot",
        State::Failed => "failed: not written",
        State::Reserved | State::Finishing => "being written",
    }
}

/// The record's text.
///
/// # Errors
/// When it can't be put into words, which isn't to be expected.
pub fn export(devices: &[Device], form: Form, record: &Path) -> Result<String, FlashError> {
    let wrong = |why: String| FlashError::Line { path: record.into(), problem: why };
    if form == Form::Json {
        let lines: Vec<Line<'_>> = devices.iter().map(|device| Line { verdict: verdict(device), device }).collect();
        return serde_json::to_string_pretty(&lines).map(|text| text + "\n").map_err(|error| wrong(error.to_string()));
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = "verdict,row,node,ticket,state,port,medium,image,operator,began,ended,written,write-seconds,verified,verify-seconds,disk,why,label,reported,heard,serial,merged";
    let text = |value: Option<i64>| value.map_or_else(String::new, |value| value.to_string());
    let real = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
    writer.write_record(head.split(',')).map_err(|error| wrong(error.to_string()))?;
    for device in devices {
        let fields = [
            verdict(device).to_string(),
            device.row.clone(),
            device.node.clone(),
            device.ticket.clone(),
            device.state.name().into(),
            device.port.clone(),
            device.medium.clone(),
            device.image.clone(),
            device.operator.clone(),
            device.began.to_string(),
            text(device.ended),
            text(device.written),
            real(device.write_seconds),
            text(device.verified),
            real(device.verify_seconds),
            device.disk.clone().unwrap_or_default(),
            device.why.clone(),
            device.label.clone().unwrap_or_default(),
            text(device.reported),
            device.heard.clone().unwrap_or_default(),
            device.serial.clone().unwrap_or_default(),
            text(device.merged),
        ];
        writer.write_record(fields).map_err(|error| wrong(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))
}
