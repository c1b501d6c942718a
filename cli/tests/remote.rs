//! `bakelite --host` with a stand-in for ssh that shows what it was given.

#![expect(clippy::unwrap_used, reason = "a proof that can't go on has failed")]

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A program `ssh` that says what it got, and ends as the machine's command would.
const SSH: &str = "#!/bin/sh
for word in \"$@\"; do last=$word; done
case $last in
  'bakelite version --json') echo '{\"version\":\"0.0.9\"}' ;;
  'bakelite dance') echo means nothing >&2; exit 2 ;;
  'bakelite gone') exit 255 ;;
  'bakelite cat') cat ;;
  'bakelite update - --dry-run') cat ;;
  *) printf '<%s>' \"$@\"; exit 3 ;;
esac
";

fn put(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_permissions(Permissions::from_mode(0o755)).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test runs the command as a person would")]
fn bakelite(path: &Path, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bakelite"))
        .args(words)
        .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn words_output_and_exit_status_are_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("ssh"), SSH);
    let run = |words: &[&str], input: &str| {
        let output = bakelite(folder.path(), words, input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (status, told, problem) = run(&["--json", "--host", "shop-017", "logs", "k3s", "a b"], "");
    assert_eq!(told, "<-T><-l><root><--><shop-017><bakelite logs k3s 'a b' --json>");
    assert_eq!((status, problem.as_str()), (Some(3), ""));
    let (status, told, _) = run(&["--host", "shop-017", "cat"], "bytes");
    assert_eq!((status, told.as_str()), (Some(0), "bytes"));
    put(&folder.path().join("shop.bundle"), "a bundle");
    let bundle = folder.path().join("shop.bundle").display().to_string();
    let (status, told, _) = run(&["--host", "shop-017", "update", &bundle, "--dry-run"], "");
    assert_eq!((status, told.as_str()), (Some(0), "a bundle"), "the file is streamed");
    let (status, _, problem) = run(&["--host", "shop-017", "update", "absent.bundle"], "");
    assert!(status == Some(2) && problem.contains("absent.bundle"), "{problem}");
    let (status, _, problem) = run(&["--host", "shop-017", "gone"], "");
    assert!(status == Some(255) && problem.contains("did not get through to shop-017"), "{problem}");
    let (status, _, problem) = run(&["--host", "shop-017", "dance"], "");
    assert!(status == Some(2) && problem.contains("runs Bakelite 0.0.9, which is older"), "{problem}");
    let (status, _, problem) = run(&["--host", "shop-017"], "");
    assert!(status == Some(2) && problem.contains("bakelite --host shop-017 help"), "{problem}");
}

#[test]
fn without_ssh_it_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test runs the command as a person would")]
    let output = Command::new(env!("CARGO_BIN_EXE_bakelite"))
        .args(["--host", "shop-017", "status"])
        .env("PATH", folder.path())
        .output()
        .unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && problem.contains("openssh-client"), "{problem}");
}
