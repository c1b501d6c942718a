//! `charts`: Helm charts that k3s itself serves, and the HelmChart manifests that name them.
//!
//! A chart isn't rendered here: that is Helm's trade, on the device. What its values name plainly is looked up; that
//! this can't be all is said.

use super::lookup::Wanted;
use super::reference::Reference;
use super::{CHARTS, Loading, placed};
use crate::source::packages::Capped;
use bakelite_spec::finding::{Finding, nearest};
use bakelite_spec::manifest::Pass;
use serde_json::Value;
use std::io::Read;

/// The most a chart may have, in bytes, and unpacked.
const LIMIT: u64 = 10 << 20;
const UNPACKED_LIMIT: u64 = 100 << 20;
/// The most one file of it that is read may have.
const FILE_LIMIT: u64 = 4 << 20;
/// Where a HelmChart finds a chart that k3s serves.
const SERVED: &str = "https://%{KUBERNETES_API}%/static/charts/";
/// Names of charts that k3s brings itself.
const K3S_OWN: &[&str] = &["traefik"];

pub(super) fn load(loading: &mut Loading<'_>) {
    let mut seen = std::collections::BTreeSet::new();
    for (number, given) in loading.config.appliance.charts.iter().enumerate() {
        let key = format!("charts[{number}]");
        let path = loading.path(given);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let problem = if !name.ends_with(".tgz") {
            Some(("is no packaged chart", "`helm package FOLDER`, which makes a .tgz"))
        } else if K3S_OWN.iter().any(|own| name.starts_with(own)) {
            Some(("has the name of a chart of k3s's own", "another file name"))
        } else if !seen.insert(name.clone()) {
            Some(("has the name of another chart", "another file name"))
        } else {
            None
        };
        if let Some((problem, hint)) = problem {
            loading.report(Finding::error(&key, format!("{} {problem}", path.display()), hint));
            continue;
        }
        let Some(bytes) = loading.read(&key, &path, LIMIT) else { continue };
        match values(&bytes) {
            Ok(values) => {
                let at = loading.config.placed(Finding::warning(&key, "", ""));
                images(loading, &at, &format!("{} (values.yaml)", path.display()), &values);
                let problem =
                    format!("{}: which images its templates name is only known on the device", path.display());
                let hint = "looking through `helm template`, and adding what it names to `images`";
                loading.report(Finding::warning(&key, problem, hint));
                loading.place("charts", &name, bytes, placed(&format!("{CHARTS}/{name}"), None, Pass::Settle));
            }
            Err(problem) => {
                let problem = format!("{} {problem}", path.display());
                loading.report(Finding::error(&key, problem, "`helm package FOLDER`"));
            }
        }
    }
}

/// The values of a packaged chart.
///
/// # Errors
/// Why it is no chart.
pub fn values(bytes: &[u8]) -> Result<Value, String> {
    let broken = |error: std::io::Error| format!("is damaged, or no packaged chart ({error})");
    let unpacked = Capped { inner: flate2::read::MultiGzDecoder::new(bytes), left: UNPACKED_LIMIT };
    let mut archive = tar::Archive::new(unpacked);
    let (mut chart, mut values) = (None, Value::Null);
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut parts = path.trim_start_matches("./").split('/');
        let (Some(_), Some(name @ ("Chart.yaml" | "values.yaml")), None) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let name = name.to_string();
        let mut text = String::new();
        entry.take(FILE_LIMIT).read_to_string(&mut text).map_err(broken)?;
        let tree: serde_yaml::Value =
            serde_yaml::from_str(&text).map_err(|error| format!("has a {name} that is no YAML ({error})"))?;
        let tree = serde_json::to_value(tree).map_err(|error| format!("has a {name} that is no YAML ({error})"))?;
        if name == "Chart.yaml" { chart = Some(tree) } else { values = tree }
    }
    match chart {
        Some(chart) if chart["name"].is_string() && chart["version"].is_string() => Ok(values),
        Some(_) => Err("has a Chart.yaml without name and version".into()),
        None => Err("has no Chart.yaml".into()),
    }
}

/// A HelmChart manifest: its chart has to be one that is there.
pub(super) fn look(loading: &mut Loading<'_>, at: &Finding, spec: &Value) {
    if let Some(text) = spec["valuesContent"].as_str()
        && let Ok(values) = serde_yaml::from_str::<serde_yaml::Value>(text)
        && let Ok(values) = serde_json::to_value(values)
    {
        images(loading, at, "valuesContent", &values);
    }
    let chart = spec["chart"].as_str().unwrap_or_default();
    if let Some(file) = chart.strip_prefix(SERVED) {
        let names: Vec<&str> =
            loading.config.appliance.charts.iter().map(|path| path.rsplit('/').next().unwrap_or(path)).collect();
        let is_own = K3S_OWN.iter().any(|own| file.starts_with(own));
        if !names.contains(&file) && !is_own {
            let hint =
                nearest(file, names).map_or_else(|| format!("`charts: [{file}]`"), |near| format!("`{SERVED}{near}`"));
            let error = Finding::error("spec.chart", format!("there is no chart {file}"), hint);
            loading.findings.push(Finding { file: at.file.clone(), place: at.place, ..error });
        }
    } else if !spec["chartContent"].is_string() {
        let problem = format!("the chart `{chart}` is fetched from the network by the device");
        let hint = format!("`charts: [FILE.tgz]` and `chart: {SERVED}FILE.tgz`");
        let finding = if loading.config.appliance.k3s.airgap {
            Finding::error("spec.chart", problem, hint)
        } else {
            Finding::warning("spec.chart", problem, hint)
        };
        loading.findings.push(Finding { file: at.file.clone(), place: at.place, ..finding });
    }
}

/// Images that values name plainly: `image: name:tag`, or `image: {registry, repository, tag}`.
fn images(loading: &mut Loading<'_>, at: &Finding, called: &str, values: &Value) {
    let mut found = Vec::new();
    named(values, &mut found);
    for image in found {
        let at = Finding { key: called.into(), ..at.clone() };
        loading.user.wanted.push(Wanted { image, at });
    }
}

fn named(values: &Value, found: &mut Vec<Reference>) {
    match values {
        Value::Object(map) => {
            for (name, value) in map {
                if name == "image" {
                    let text = |key: &str| match &value[key] {
                        Value::String(text) if !text.is_empty() => Some(text.clone()),
                        Value::Number(number) => Some(number.to_string()),
                        _ => None,
                    };
                    let whole = match (value.as_str(), text("repository"), text("tag")) {
                        // A name without a tag gets one from the templates.
                        (Some(name), ..) if name.contains(':') => Some(name.to_string()),
                        (_, Some(repository), Some(tag)) => {
                            let registry = text("registry").map_or_else(String::new, |registry| registry + "/");
                            Some(format!("{registry}{repository}:{tag}"))
                        }
                        _ => None,
                    };
                    found.extend(whole.and_then(|name| Reference::parse(&name)));
                }
                named(value, found);
            }
        }
        Value::Array(entries) => entries.iter().for_each(|value| named(value, found)),
        _ => {}
    }
}
