//! What the tests of this folder share: a key that signs, a small HTTP server with bad habits, and a made-up archive.
//!
//! Everything is built in memory at a fixed time, so that no test needs the network, the clock or a fixture.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use pgp::composed::{CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, Password, Timestamp};

use super::ar::write_member;
use super::cache::Cache;
use super::digest::Sha256;
use super::http::Fetcher;
use super::mirror::Mirrors;
use super::trust::TrustedKeys;

/// 2026-11-21 12:00 UTC.
pub const NOW: u64 = 1_795_262_400;

/// A key made for one test.
pub struct FakeKey(SignedSecretKey);

impl FakeKey {
    pub fn new() -> Self {
        Self::made_at(NOW - 86_400)
    }

    pub fn made_at(created: u64) -> Self {
        let params = SecretKeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(true)
            .created_at(Timestamp::from_secs(created as u32))
            .primary_user_id("A Test <test@example.org>".into())
            .build()
            .unwrap();
        Self(params.generate(rand::thread_rng()).unwrap())
    }

    pub fn id(&self) -> String {
        format!("{:X}", self.0.primary_key.fingerprint())
    }

    pub fn armored(&self) -> String {
        self.0.to_public_key().to_armored_string(None.into()).unwrap()
    }

    pub fn public(&self) -> Vec<u8> {
        self.0.to_public_key().to_bytes().unwrap()
    }

    pub fn trusted(&self) -> TrustedKeys {
        let bytes = self.public();
        TrustedKeys::pinned(&[(&self.id(), &bytes)]).unwrap()
    }

    pub fn sign(&self, text: &str) -> String {
        let key = &self.0.primary_key;
        let mut config = SignatureConfig::from_key(rand::thread_rng(), key, SignatureType::Text).unwrap();
        let subpacket = |data| Subpacket::regular(data).unwrap();
        config.hashed_subpackets = vec![
            subpacket(SubpacketData::SignatureCreationTime(Timestamp::from_secs((NOW - 3600) as u32))),
            subpacket(SubpacketData::IssuerFingerprint(key.fingerprint())),
        ];
        let message = CleartextSignedMessage::new(text, config, key, &Password::empty()).unwrap();
        message.to_armored_string(None.into()).unwrap()
    }
}

/// Files by path, to be changed while they are served.
pub type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// What the server says to one request.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub location: Option<String>,
    /// Sends only so many bytes of the body, though it promises all.
    pub cut: Option<usize>,
}

impl Answer {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), location: None, cut: None }
    }

    pub fn absent() -> Self {
        Self { status: 404, ..Self::ok("absent") }
    }

    pub fn redirect(location: &str) -> Self {
        Self { status: 302, location: Some(location.to_owned()), ..Self::ok("") }
    }
}

/// Answers on a port of its own until dropped.
pub struct Server {
    address: std::net::SocketAddr,
    requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` gets the path and the number of the request, from 1.
    pub fn start(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stopped, answer) = (requests.clone(), stop.clone(), Arc::new(answer));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (counter, answer) = (counter.clone(), answer.clone());
                std::thread::spawn(move || {
                    serve(stream, |path| answer(path, counter.fetch_add(1, Ordering::SeqCst) + 1))
                });
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(stream: TcpStream, answer: impl FnOnce(&str) -> Answer) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let answer = answer(path);
    let location = answer.location.map(|to| format!("Location: {to}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} x\r\nContent-Length: {}\r\nConnection: close\r\n{location}\r\n",
        answer.status,
        answer.body.len()
    );
    let body = if method == "HEAD" { &[] } else { &answer.body[..answer.cut.unwrap_or(answer.body.len())] };
    let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body));
}

/// One entry of a made-up package's data.tar, written without any check of its path.
pub struct RawEntry<'a> {
    pub path: &'a str,
    pub kind: tar::EntryType,
    pub link: &'a str,
    pub content: &'a [u8],
}

impl<'a> RawEntry<'a> {
    pub fn file(path: &'a str, content: &'a [u8]) -> Self {
        Self { path, kind: tar::EntryType::Regular, link: "", content }
    }

    pub fn link(path: &'a str, kind: tar::EntryType, link: &'a str) -> Self {
        Self { path, kind, link, content: &[] }
    }
}

/// A tar whose names are written as they are given.
pub fn make_tar(entries: &[RawEntry<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        header.as_old_mut().linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_size(entry.content.len() as u64);
        // As packages have their programs.
        let runs = entry.kind.is_dir() || entry.content.starts_with(b"\x7fELF");
        header.set_mode(if runs { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(NOW);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(entry.content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A .deb whose parts are compressed as the ending says ("", ".gz", ".xz", ".zst").
pub fn make_deb(name: &str, ending: &str, entries: &[RawEntry<'_>]) -> Vec<u8> {
    let pack = |bytes: Vec<u8>| match ending {
        ".gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        }
        ".xz" => pack_xz(&bytes),
        ".zst" => zstd::encode_all(bytes.as_slice(), 1).unwrap(),
        _ => bytes,
    };
    let control = format!("Package: {name}\nVersion: 1\n");
    let mut archive = Vec::new();
    write_member(&mut archive, "debian-binary", b"2.0\n");
    let control = pack(make_tar(&[RawEntry::file("./control", control.as_bytes())]));
    write_member(&mut archive, &format!("control.tar{ending}"), &control);
    write_member(&mut archive, &format!("data.tar{ending}"), &pack(make_tar(entries)));
    archive
}

/// One xz stream with the preset of `xz -6`.
pub fn pack_xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 6);
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A package as it is published.
pub struct Published {
    pub name: String,
    pub version: String,
    /// Debian's name of its architecture.
    pub arch: &'static str,
    /// Further fields, each with a line end.
    pub fields: String,
    /// Path below the repository.
    pub pool: String,
    pub deb: Vec<u8>,
}

/// Puts a signed suite with one component into files; its name is the last word of `names`.
pub fn publish(
    files: &mut BTreeMap<String, Vec<u8>>,
    key: &FakeKey,
    root: &str,
    names: &str,
    day: &str,
    packages: &[(&str, &str, &str)],
) {
    let packages = packages.iter().map(|(name, version, fields)| Published {
        name: name.to_string(),
        version: version.to_string(),
        arch: "amd64",
        fields: fields.to_string(),
        pool: format!("pool/{name}_{version}.deb"),
        deb: make_deb(name, ".zst", &[RawEntry::file(&format!("./usr/{name}"), version.as_bytes())]),
    });
    publish_all(files, key, root, names, day, &["amd64"], &packages.collect::<Vec<_>>());
}

/// The same for any packages, with an index for each architecture.
pub fn publish_all(
    files: &mut BTreeMap<String, Vec<u8>>,
    key: &FakeKey,
    root: &str,
    names: &str,
    day: &str,
    archs: &[&str],
    packages: &[Published],
) {
    let dists = format!("{root}/dists/{}", names.rsplit(' ').next().unwrap());
    let mut release = format!("{names}\nDate: Sat, {day} 00:00:00 UTC\nAcquire-By-Hash: yes\nSHA256:\n");
    for arch in archs {
        let mut index = String::new();
        for Published { name, version, fields, pool, deb, .. } in packages.iter().filter(|one| one.arch == *arch) {
            index.push_str(&format!(
                "Package: {name}\nVersion: {version}\nArchitecture: {arch}\nFilename: {pool}\nSize: {}\nSHA256: {}\n{fields}\n",
                deb.len(),
                Sha256::of(deb)
            ));
            files.insert(format!("{root}/{pool}"), deb.clone());
        }
        let sum = Sha256::of(index.as_bytes());
        release.push_str(&format!(" {sum} {} main/binary-{arch}/Packages\n", index.len()));
        files.insert(format!("{dists}/main/binary-{arch}/by-hash/SHA256/{sum}"), index.into_bytes());
    }
    files.insert(format!("{dists}/InRelease"), key.sign(&release).into_bytes());
}

/// A made-up archive: both mirrors behind one server, files by path.
pub struct FakeArchive {
    pub key: FakeKey,
    pub files: Files,
    pub server: Server,
}

impl FakeArchive {
    /// Suites "trixie" (holding `packages`), "trixie-updates" and "trixie-security" (holding `security`). Each package is
    /// a name, a version and further fields; its .deb is made to fit.
    pub fn new(packages: &[(&str, &str, &str)], security: &[(&str, &str, &str)]) -> Self {
        let key = FakeKey::new();
        let mut files = BTreeMap::new();
        for (root, suite, list) in [
            ("/debian", "trixie", packages),
            ("/debian", "trixie-updates", &[]),
            ("/debian-security", "trixie-security", security),
        ] {
            publish(&mut files, &key, root, &format!("Codename: {suite}"), "21 Nov 2026", list);
        }
        let files = Arc::new(Mutex::new(files));
        let served = files.clone();
        let server = Server::start(move |path, _| {
            served.lock().unwrap().get(path).map_or_else(Answer::absent, |bytes| Answer::ok(bytes.as_slice()))
        });
        Self { key, files, server }
    }

    pub fn mirrors(&self) -> Mirrors {
        let (debian, security) = (self.server.url("/debian"), self.server.url("/debian-security"));
        Mirrors { debian, security, without: Vec::new() }
    }

    /// Puts one more suite of Debian's into the archive.
    pub fn add_suite(&self, suite: &str, packages: &[(&str, &str, &str)]) {
        let mut files = self.files.lock().unwrap();
        publish(&mut files, &self.key, "/debian", &format!("Codename: {suite}"), "21 Nov 2026", packages);
    }

    /// Changes one file as it is served.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.files.lock().unwrap().get_mut(path).unwrap());
    }
}

/// A cache in a folder of its own, without pauses.
pub fn cache(folder: &std::path::Path, offline: bool) -> Cache {
    Cache::open(folder, Fetcher::new(Duration::from_secs(5)).with_pauses([Duration::ZERO; 2]), offline).unwrap()
}
