//! Takes secrets out of texts: those that this machine knows, wherever they stand, and whatever looks like one.
//!
//! Two nets, as each has holes: values that are secrets here are replaced in every form in which a text may have them, and
//! what is called or shaped like a secret is replaced whatever it is. Rather too much goes than too little. Pure.

use bakelite_spec::keys::{APPLIANCE, Kind};
use bakelite_spec::secret::SecretRef;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// What stands in place of a secret.
pub const REDACTED: &str = "<redacted>";
/// A shorter value is no secret worth the name, and stands everywhere.
const SHORTEST: usize = 4;
/// The same for a single line of a longer one.
const SHORTEST_LINE: usize = 12;
/// What programs call their secrets, besides the keys of the appliance that are such: ends of names, in lower case.
const NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "psk",
    "credential",
    "credentials",
    "client-key-data",
    "private-key",
    "privatekey",
    "secret-key",
    "secretkey",
    "access-key",
    "accesskey",
    "api-key",
    "apikey",
    "auth",
    "authorization",
    "identitytoken",
];
/// Beginnings of what is a secret by its shape: up to the first character that can't be in one.
const SHAPES: &[&str] = &["AGE-SECRET-KEY-1", "Bearer ", "Basic ", "eyJ", "K10"];

/// The secrets that are looked for.
#[derive(Debug)]
pub struct Redactor {
    /// Longest first: a part of one must not spare the rest.
    forms: Vec<String>,
    names: Vec<String>,
}

impl Redactor {
    /// From the values that are secrets on this machine.
    pub fn new(values: &[String]) -> Self {
        let mut forms: Vec<String> = values.iter().flat_map(|value| forms(value)).collect();
        forms.sort_by_key(|form| (std::cmp::Reverse(form.len()), form.clone()));
        forms.dedup();
        let keys = APPLIANCE.iter().filter(|key| matches!(key.kind, Kind::Secret));
        let keys = keys.filter_map(|key| key.path.rsplit('.').next());
        let mut names: Vec<String> = NAMES.iter().copied().chain(keys).map(String::from).collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        names.dedup();
        Self { forms, names }
    }

    /// A text without secrets.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_string();
        for form in &self.forms {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), REDACTED);
            }
        }
        let text = private_keys(&text);
        let text = shapes(&text);
        let text = logins(&text);
        self.named(&text)
    }

    /// A tree without secrets: what stands under a name of one is none of a reader's business, but for references.
    pub fn tree(&self, value: &mut Value) {
        match value {
            reference if SecretRef::of(reference).is_some() => {}
            Value::Object(map) => {
                for (name, value) in map {
                    if self.is_name(name) && !value.is_object() && !is_harmless(value) {
                        *value = Value::from(REDACTED);
                    } else {
                        self.tree(value);
                    }
                }
            }
            Value::Array(entries) => entries.iter_mut().for_each(|entry| self.tree(entry)),
            Value::String(text) => *text = self.text(text),
            _ => {}
        }
    }

    fn is_name(&self, name: &str) -> bool {
        let name = name.to_lowercase().replace('_', "-");
        self.names.iter().any(|secret| name.ends_with(secret.as_str()))
    }

    /// `password: x`, `"token":"x"`, `SECRET=x`: the value goes.
    fn named(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find([':', '=']) {
            let (before, after) = rest.split_at(at);
            let name = before.trim_end_matches(['"', '\'', '\\', ' ']);
            let start = name
                .rfind(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
                .map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
            clean.push_str(before);
            let value = &after[1..];
            let opening = value.len() - value.trim_start_matches(['"', '\'', '\\', ' ', '\t']).len();
            let (gap, value) = value.split_at(opening);
            clean.push_str(&after[..1]);
            clean.push_str(gap);
            rest = value;
            if self.is_name(&name[start..]) {
                // In quotes a secret may hold blanks.
                let is_quoted = gap.contains(['"', '\'']);
                let ends = |c: char| match is_quoted {
                    true => "\"'\\\n".contains(c),
                    false => c.is_whitespace() || ",;}])\"'\\".contains(c),
                };
                let length = value.find(ends).unwrap_or(value.len());
                let is_reference = name[..start].ends_with('{') && &name[start..] == "secret";
                let spared = is_reference
                    || ["", "null", "true", "false", REDACTED].contains(&&value[..length])
                    || value.starts_with(['/', '{', '[', '<', '|', '>']);
                if !spared {
                    clean.push_str(REDACTED);
                    rest = &value[length..];
                }
            }
        }
        clean + rest
    }
}

/// What says of a secret that it is there, or where, and not what it is.
fn is_harmless(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        Value::String(text) => text.is_empty() || text.starts_with('/'),
        _ => false,
    }
}

/// All forms in which a text may have a value.
fn forms(value: &str) -> Vec<String> {
    let value = value.trim();
    if value.chars().count() < SHORTEST {
        return Vec::new();
    }
    let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
    let mut forms = Vec::new();
    for value in std::iter::once(value).chain(lines) {
        let escape = |text: &str| {
            let quoted = Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_string()
        };
        let once = escape(value);
        let percent: String = value
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        forms.extend([escape(&once), once, percent, value.into()]);
        for bytes in [value.as_bytes().to_vec(), format!("{value}\n").into_bytes()] {
            // The last characters depend on what may follow in the same encoding.
            let whole = bytes.len() / 3 * 3;
            forms.extend([STANDARD_NO_PAD.encode(&bytes[..whole]), URL_SAFE_NO_PAD.encode(&bytes[..whole])]);
            forms.extend([STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)]);
        }
    }
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

/// PEM blocks of private keys, also as one line with its line ends escaped; one without an end takes all that follows.
fn private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let (before, block) = rest.split_at(at);
        clean.push_str(before);
        let title = block[BEGIN.len()..].split("-----").next().unwrap_or_default();
        if !title.contains("PRIVATE KEY") {
            clean.push_str(BEGIN);
            rest = &block[BEGIN.len()..];
            continue;
        }
        clean.push_str(REDACTED);
        let end = format!("-----END {title}-----");
        rest = block.find(&end).map_or("", |at| &block[at + end.len()..]);
    }
    clean + rest
}

/// Words that are secrets by their shape.
fn shapes(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let found = SHAPES.iter().filter_map(|shape| Some((rest.find(shape)?, *shape))).min();
        let Some((at, shape)) = found else { return clean + rest };
        let (before, word) = rest.split_at(at);
        let begins = !before.ends_with(|c: char| c.is_ascii_alphanumeric());
        let body = &word[shape.len()..];
        let length = body.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.+/=:~".contains(c))).unwrap_or(body.len());
        let body = &body[..length];
        let is_one = begins
            && match shape {
                // A JSON web token has three parts, k3s's token a hash (k3s.md 4).
                "eyJ" => body.matches('.').count() == 2,
                "K10" => body.contains("::"),
                _ => body.len() >= SHORTEST,
            };
        clean.push_str(before);
        if is_one {
            let kept = if shape.ends_with(' ') { shape } else { "" };
            clean.push_str(kept);
            clean.push_str(REDACTED);
            rest = &word[shape.len() + length..];
        } else {
            clean.push_str(shape);
            rest = &word[shape.len()..];
        }
    }
}

/// `https://user:password@host`.
fn logins(text: &str) -> String {
    const SCHEME: &str = "://";
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(SCHEME) {
        let (before, after) = rest.split_at(at + SCHEME.len());
        clean.push_str(before);
        rest = after;
        let end = after.find(|c: char| c.is_whitespace() || "\"'<>`,;".contains(c)).unwrap_or(after.len());
        // A password may have a slash in it, written wrongly: the last @ before the end counts.
        let place = &after[..end];
        let authority = place.rfind('@').filter(|at| place[..*at].contains(':'));
        if let Some(at) = authority {
            clean.push_str(REDACTED);
            rest = &after[at..];
        }
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::json;

    fn redactor(values: &[&str]) -> Redactor {
        Redactor::new(&values.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_known_secret_goes_in_every_form() {
        let secret = "hunter2 \"and\" more/ö";
        let once = Value::from(secret).to_string();
        let texts = [
            secret.to_string(),
            format!("a {secret} b"),
            once.clone(),
            Value::from(once).to_string(),
            STANDARD.encode(secret),
            STANDARD.encode(format!("{secret}\n")),
            "hunter2%20%22and%22%20more%2F%C3%B6".into(),
        ];
        for text in texts {
            let clean = redactor(&[secret]).text(&text);
            assert!(!clean.contains("hunter2") && clean.contains(REDACTED), "{text}: {clean}");
        }
        let lines = "-----BEGIN X-----\nMIIEvgIBADANBgkq\nhkiG9w0B\n-----END X-----\n";
        assert!(!redactor(&[lines]).text("only a part: MIIEvgIBADANBgkq").contains("MIIEvg"));
        assert_eq!(redactor(&["no", ""]).text("no such thing"), "no such thing");
    }

    #[test]
    fn what_is_called_a_secret_or_looks_like_one_goes() {
        for text in [
            "password: hunter2",
            "auth: {username: u, token: hunter2}",
            "{token: hunter2}",
            "  password: \"hunter2 and more\"\n",
            r#"{"auth":{"password":"hunter2","x":1}}"#,
            r#"{"a":"{\"password\":\"hunter2\"}"}"#,
            "K3S_TOKEN=hunter2 next",
            "agent-token = 'hunter2'",
            "  etcd-s3-secret-key: hunter2",
            "client-key-data: hunter2=",
            "GET https://user:hunter2@registry.lan/v2/ 401",
            "proxy http://user:hun/hunter2@10.0.0.1:3128",
            "Authorization: Bearer hunter2.x-y",
            "token K10aabb::server:hunter2 was given",
            "AGE-SECRET-KEY-1HUNTER2HUNTER2 hunter",
            "jwt eyJhbGciOi.hunter2.sig!",
            "-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\nafter",
            r"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\nafter",
            "-----BEGIN PRIVATE KEY-----\nhunter2 cut off",
        ] {
            let clean = redactor(&[]).text(text);
            assert!(!clean.to_lowercase().contains("hunter2") && clean.contains(REDACTED), "{text}: {clean}");
        }
        assert!(
            redactor(&[]).text("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\nafter").ends_with("after")
        );
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "token-file: /var/lib/bakelite/token",
            "token: {secret: cluster}",
            "password: {seed: wifi}",
            "the token doesn't open the database",
            "secrets-encryption: true",
            "https://user@host/path and https://host:6443/x",
            "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
            "eyJ is no token, K10 neither",
            "at 12:30:05 all was well; a=b",
            "auth: null",
        ] {
            assert_eq!(redactor(&[]).text(text), text);
        }
    }

    #[test]
    fn a_tree_keeps_its_shape_and_its_references() {
        let mut tree = json!({
            "token": "hunter2", "agent-token-file": "/x", "registries": {"configs": {"r": {"auth": {"password": {"secret": "p"}}}}},
            "datastore-endpoint": "postgres://u:hunter2@h/db", "kubelet-arg": ["a=b"], "secrets-encryption": true,
            "configs": [{"auth": "hunter2"}]
        });
        redactor(&[]).tree(&mut tree);
        assert!(!tree.to_string().contains("hunter2"), "{tree}");
        assert_eq!(tree["registries"]["configs"]["r"]["auth"]["password"], json!({"secret": "p"}));
        assert_eq!(tree["agent-token-file"], "/x");
        assert_eq!(tree["kubelet-arg"], json!(["a=b"]));
        assert_eq!(tree["secrets-encryption"], true);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it_and_a_known_secret_never_stays(
            before in "[-\"'\\\\:=@/ {}a-zö\\n.]{0,30}", secret in "[a-zA-Z0-9+/:@\"ö]{8,20}", after in "[-\"'\\\\:=@/ {}a-zö\\n.]{0,30}"
        ) {
            let clean = redactor(&[&secret]).text(&format!("{before}{secret}{after}"));
            prop_assert!(!clean.contains(&secret) || REDACTED.contains(&secret));
        }
    }
}
