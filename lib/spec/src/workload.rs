//! Workloads that a manifest has, by the names that k3s's database has them under.

use serde::Deserialize;
use serde_json::Value;

/// The kinds that say how available they are, and their folders in the database.
const KINDS: [(&str, &str); 3] =
    [("DaemonSet", "daemonsets"), ("Deployment", "deployments"), ("StatefulSet", "statefulsets")];
/// The namespace of what names none.
const NAMESPACE: &str = "default";

/// The workloads of a manifest, such as `deployments/default/till`. What can't be read has none: k3s says so.
pub fn names(manifest: &str) -> Vec<String> {
    let documents = serde_yaml::Deserializer::from_str(manifest);
    let mut found = Vec::new();
    for document in documents {
        let Ok(value) = Value::deserialize(document) else { break };
        let items = value["items"].as_array();
        found.extend(items.map_or_else(|| vec![&value], |items| items.iter().collect()).into_iter().filter_map(name));
    }
    found
}

fn name(object: &Value) -> Option<String> {
    let is_of_apps = object["apiVersion"].as_str()?.starts_with("apps/");
    let (_, folder) = KINDS.iter().find(|(kind, _)| is_of_apps && object["kind"] == *kind)?;
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().unwrap_or(NAMESPACE);
    Some(format!("{folder}/{namespace}/{}", metadata["name"].as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_how_available_it_is_has_a_name_in_the_database() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: till}\n---\n# nothing\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: shop}}\n\
                    ---\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {a: {secret: b}}\n---\n\
                    apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: probe, namespace: shop}\n";
        assert_eq!(names(text), ["deployments/default/till", "statefulsets/shop/db", "daemonsets/shop/probe"]);
        assert!(names("kind: Deployment\nmetadata: {name: x}\n").is_empty());
        assert!(names("a: [").is_empty() && names("").is_empty());
        assert!(names(crate::apps::NOTHING_TEXT).is_empty());
    }
}
