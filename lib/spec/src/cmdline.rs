//! The kernel command line: read, merged by key, written back in order.
//!
//! A parameter is `key` or `key=value`; quotes keep blanks (kernel: Documentation/admin-guide/kernel-parameters).
//! Dashes and underscores in keys mean the same to the kernel, so they do here.

/// The argument of a machine that was started from a recovery stick, and not from its own medium.
pub const FROM_STICK: &str = "bakelite.recovery";
/// The argument that names the slot whose system is started.
pub const SLOT: &str = "bakelite.slot";

/// A kernel command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmdline(Vec<(String, Option<String>)>);

impl Cmdline {
    /// Reads a command line; line ends and zeros count as blanks.
    pub fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in text.chars().chain([' ']) {
            match c {
                '"' => quoted = !quoted,
                c if (c.is_whitespace() || c == '\0') && !quoted => {
                    if !word.is_empty() {
                        words.push(std::mem::take(&mut word));
                    }
                }
                c => word.push(c),
            }
        }
        if !word.is_empty() {
            words.push(word);
        }
        Self(words.into_iter().map(split).collect())
    }

    /// The value of a parameter's last occurrence; `Some("")` for a parameter without one.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| same(name, key)).map(|(_, value)| value.as_deref().unwrap_or(""))
    }

    /// The slot whose system is started.
    pub fn slot(&self) -> Option<&str> {
        self.value(SLOT)
    }

    /// The values of all occurrences of a parameter, in order.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| same(name, key)).map(|(_, value)| value.as_deref().unwrap_or(""))
    }

    /// All parameters whose key begins with a prefix, the prefix taken off.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_deref().unwrap_or(""))))
    }

    /// Adds parameters as they are written, behind what is there; an exact repetition is left out.
    pub fn add(&mut self, text: &str) {
        for parameter in Self::parse(text).0 {
            if !self.0.contains(&parameter) {
                self.0.push(parameter);
            }
        }
    }

    /// Adds another line behind this one, whatever is in it.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Merges other parameters in by key: a key of theirs has their values only, every other key stays. What had to go.
    pub fn merge(&mut self, wanted: &Self) -> Self {
        let stays = |(name, value): &(String, Option<String>)| {
            wanted.0.contains(&(name.clone(), value.clone())) || !wanted.0.iter().any(|(key, _)| same(key, name))
        };
        let (stay, go) = std::mem::take(&mut self.0).into_iter().partition(stays);
        self.0 = stay;
        for parameter in &wanted.0 {
            if !self.0.contains(parameter) {
                self.0.push(parameter.clone());
            }
        }
        Self(go)
    }

    /// Takes parameters out, with just these values.
    pub fn remove(&mut self, others: &Self) {
        self.0.retain(|parameter| !others.0.contains(parameter));
    }

    /// Those of other parameters that aren't here with just these values.
    pub fn lacks(&self, wanted: &Self) -> Self {
        Self(wanted.0.iter().filter(|parameter| !self.0.contains(parameter)).cloned().collect())
    }

    /// Whether it has the same parameters, in whatever order.
    pub fn is_like(&self, other: &Self) -> bool {
        let sorted = |line: &Self| {
            let mut all = line.0.clone();
            all.sort();
            all
        };
        sorted(self) == sorted(other)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parameters' names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// One line, without a line end.
    pub fn render(&self) -> String {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")))
            .map(|word| if word.contains(char::is_whitespace) { format!("\"{word}\"") } else { word })
            .collect();
        words.join(" ")
    }
}

fn split(word: String) -> (String, Option<String>) {
    match word.split_once('=') {
        Some((name, value)) => (name.to_string(), Some(value.to_string())),
        None => (word, None),
    }
}

fn same(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.replace('-', "_");
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_and_firmware_leave() {
        let line = Cmdline::parse("console=ttyS0 console=tty0\r\nquiet bakelite.slot=a dyndbg=\"file a +p\"\0\0");
        assert_eq!(line.value("console"), Some("tty0"));
        assert_eq!(line.values("console").count(), 2);
        assert_eq!(line.value("quiet"), Some(""));
        assert_eq!(line.value("dyndbg"), Some("file a +p"));
        assert_eq!(line.value("bakelite_slot"), None);
        assert_eq!(line.with_prefix("bakelite.").collect::<Vec<_>>(), [("slot", "a")]);
    }

    #[test]
    fn parameters_are_merged_by_key_and_everything_else_is_kept() {
        let mut line = Cmdline::parse("a console=ttyS0 console=tty0 log-level=4 b=1");
        let gone = line.merge(&Cmdline::parse("log_level=7 console=tty0 c"));
        assert_eq!(line.render(), "a console=tty0 b=1 log_level=7 c");
        assert_eq!(gone.render(), "console=ttyS0 log-level=4");
        assert_eq!(line.lacks(&Cmdline::parse("a b=2 c")).render(), "b=2");
    }

    proptest! {
        #[test]
        fn what_is_merged_twice_is_merged_once(text in "[a-c=1 ]{0,30}", wanted in "[a-c=1 ]{0,20}") {
            let (mut line, wanted) = (Cmdline::parse(&text), Cmdline::parse(&wanted));
            line.merge(&wanted);
            let once = line.clone();
            prop_assert!(line.merge(&wanted).is_empty());
            prop_assert_eq!(&line, &once);
            prop_assert!(line.lacks(&wanted).is_empty());
        }

        #[test]
        fn what_is_written_reads_the_same(text in "[a-z=\" .-]{0,60}") {
            let line = Cmdline::parse(&text);
            prop_assert_eq!(Cmdline::parse(&line.render()), line);
        }
    }
}
