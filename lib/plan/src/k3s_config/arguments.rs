//! Lists of `name=value`, as k3s hands them to the API server and its like: the user's own win, name by name.
//!
//! k3s passes every occurrence on, and these programs take the last one of a name (k3s.md 5.1). So a name that the user
//! sets is left out of ours, but for feature gates, which are themselves a list of names. `name+=` and `name-=` add to
//! k3s's own value and replace nothing.

use serde_json::{Map, Value};

const GATES: &str = "feature-gates";

/// Adds arguments of ours under a key of the user's configuration.
pub fn add(config: &mut Map<String, Value>, key: &str, ours: &[String]) {
    let theirs = texts(config.get(key));
    let gates_of = |list: &[String]| -> Vec<String> {
        let values = list.iter().filter_map(|argument| argument.strip_prefix("feature-gates="));
        values.flat_map(|value| value.split(',')).map(String::from).collect()
    };
    let is_set = |argument: &str| theirs.iter().any(|their| name(their) == name(argument));
    let mut all: Vec<String> =
        ours.iter().filter(|argument| name(argument) != GATES && !is_set(argument)).cloned().collect();
    let (our_gates, their_gates) = (gates_of(ours), gates_of(&theirs));
    let mut gates: Vec<String> =
        our_gates.into_iter().filter(|gate| !their_gates.iter().any(|their| name(their) == name(gate))).collect();
    gates.extend(their_gates);
    if !gates.is_empty() {
        all.push(format!("{GATES}={}", gates.join(",")));
    }
    all.extend(theirs.into_iter().filter(|argument| name(argument) != GATES));
    if !all.is_empty() {
        config.insert(key.into(), all.into());
    }
}

/// Adds entries of ours to a list of the user's, each once.
pub fn join(config: &mut Map<String, Value>, key: &str, ours: &[String]) {
    let mut all = ours.to_vec();
    for their in texts(config.get(key)) {
        if !all.contains(&their) {
            all.push(their);
        }
    }
    config.insert(key.into(), all.into());
}

fn name(argument: &str) -> &str {
    argument.split_once('=').map_or(argument, |(name, _)| name)
}

/// A list, or the one text that k3s takes for it.
fn texts(value: Option<&Value>) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    match value {
        None => Vec::new(),
        Some(Value::Array(entries)) => entries.iter().map(text).collect(),
        Some(one) => vec![text(one)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn added(theirs: &Value, ours: &[&str]) -> Value {
        let mut config = json!({ "a": theirs }).as_object().cloned().unwrap_or_default();
        add(&mut config, "a", &ours.iter().map(ToString::to_string).collect::<Vec<_>>());
        config["a"].clone()
    }

    #[test]
    fn the_users_own_win_name_by_name() {
        assert_eq!(added(&json!([]), &["x=1", "y=2"]), json!(["x=1", "y=2"]));
        assert_eq!(added(&json!(["x=9"]), &["x=1", "y=2"]), json!(["y=2", "x=9"]));
        assert_eq!(added(&json!("x=9"), &["y=2"]), json!(["y=2", "x=9"]));
        assert_eq!(added(&json!(["x+=9"]), &["x=1"]), json!(["x=1", "x+=9"]));
    }

    #[test]
    fn feature_gates_are_merged_gate_by_gate() {
        let ours = ["feature-gates=A=false,B=false"];
        assert_eq!(added(&json!([]), &ours), json!(["feature-gates=A=false,B=false"]));
        assert_eq!(
            added(&json!(["feature-gates=C=true,A=true", "v=2"]), &ours),
            json!(["feature-gates=B=false,C=true,A=true", "v=2"])
        );
    }
}
