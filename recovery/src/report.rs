//! The page that a person reads out on the phone, and the report that stays on the stick.

use crate::{MedicError, Stick};
use bakelite_plan::recovery::{Action, Facts, Finding, Remedy};
use bakelite_sys::{durable, machine};
use bakelite_trust::recovery::REPORTS;
use serde::Serialize;
use std::path::Path;

/// All that is told.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Told<'a> {
    pub(crate) verdict: &'a str,
    pub(crate) first: &'a [Finding],
    pub(crate) done: &'a [Action],
    pub(crate) failed: &'a [String],
    pub(crate) last: &'a [Finding],
    pub(crate) exported: &'a [String],
    pub(crate) facts: &'a Facts,
}

/// The findings as numbered lines.
pub(crate) fn page(findings: &[Finding]) -> Vec<String> {
    let line = |(number, finding): (usize, &Finding)| {
        let mark = match finding.remedy {
            Remedy::None => "ok  ",
            Remedy::Now(_) => "MEND",
            Remedy::Machine => "self",
            Remedy::Person => "CALL",
        };
        format!("{:>2} {mark} {}: {}", number + 1, finding.part, finding.text)
    };
    findings.iter().enumerate().map(line).collect()
}

/// An action in a person's words.
pub(crate) fn words(action: &Action) -> String {
    match action {
        Action::CopyTable => "wrote the partition table from its whole copy".into(),
        Action::MakeTable => "wrote the partition table anew".into(),
        Action::MendBoot => "had fsck.fat put the boot partition in order".into(),
        Action::MakeBoot => "made the boot partition anew".into(),
        Action::WriteFiles(names) => format!("wrote {}", names.join(", ")),
        Action::WriteEntry => "wrote the first boot entry".into(),
        Action::RemoveEntries(names) => format!("removed the boot entries {}", names.join(", ")),
        Action::WriteSlot(letter) => format!("wrote system {letter}, and read it back"),
        Action::MendVolume(name) => format!("had e2fsck repair {name}"),
        Action::Install(_) => "put the system onto that disk, and read it back".into(),
    }
}

fn text(told: &Told<'_>) -> String {
    let mut lines = vec![told.verdict.to_string(), String::new(), "What was found:".into()];
    lines.extend(page(told.first));
    if !told.done.is_empty() {
        lines.extend([String::new(), "What was done:".into()]);
        lines.extend(told.done.iter().map(words));
        lines.extend([String::new(), "What was found then:".into()]);
        lines.extend(page(told.last));
    }
    lines.extend(told.failed.iter().map(|line| format!("FAILED: {line}")));
    lines.extend(told.exported.iter().cloned());
    lines.join("\n") + "\n"
}

/// The machine's name among folders on the stick.
pub(crate) fn machine() -> String {
    let serial = machine::serial(Path::new("/"));
    let plain: String = serial.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(60).collect();
    if plain.is_empty() { "machine".into() } else { plain }
}

/// Writes the report onto the stick; where it is. One folder a machine.
pub(crate) fn write(stick: &Stick, told: &Told<'_>) -> Result<String, MedicError> {
    let folder = format!("{REPORTS}/{}", machine());
    let place = stick.root.join(&folder);
    stick.change(|| {
        durable::make_folder(&place)?;
        let json = serde_json::to_vec_pretty(told).unwrap_or_default();
        for (name, bytes) in [("report.json", &json[..]), ("report.txt", text(told).as_bytes())] {
            durable::remove_file(place.join(name))?;
            durable::write_whole(&place.join(name), bytes, 0o644)?;
        }
        Ok(())
    })?;
    Ok(format!("{folder}/report.txt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_can_be_read_out() {
        let finding = |part: &str, text: &str, remedy| Finding { part: part.into(), text: text.into(), remedy };
        let findings = [
            finding("partition table", "good", Remedy::None),
            finding("system a", "damaged; written from the stick", Remedy::Now(Action::WriteSlot("a".into()))),
            finding("boot files", "of another image", Remedy::Person),
        ];
        let expected = [
            " 1 ok   partition table: good",
            " 2 MEND system a: damaged; written from the stick",
            " 3 CALL boot files: of another image",
        ];
        assert_eq!(page(&findings), expected);
        let told = Told {
            verdict: "RESULT: 1 repairs",
            first: &findings,
            done: &[Action::WriteSlot("a".into())],
            failed: &[],
            last: &findings[..1],
            exported: &["EXPORT: 3 files".to_string()],
            facts: &Facts::default(),
        };
        let text = text(&told);
        assert!(text.starts_with("RESULT: 1 repairs\n\nWhat was found:\n 1 ok"), "{text}");
        assert!(text.ends_with("EXPORT: 3 files\n"), "{text}");
        assert!(text.contains("What was done:\nwrote system a, and read it back\n"), "{text}");
    }
}
