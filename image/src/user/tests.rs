//! Appliances with files of their own: what is found, and what comes into the root.

use super::testing::{chart, docker, oci, tar};
use super::*;
use crate::host::file;
use bakelite_spec::finding::Severity;

/// A folder with an appliance and its files.
struct Shop(tempfile::TempDir);

impl Shop {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            file::make_folder(path.parent().unwrap()).unwrap();
            file::write(&path, content).unwrap();
        }
        Self(folder)
    }

    fn config(&self, text: &str) -> Config {
        let text = format!("board: qemu-x86_64\nbackup: {{recipients: []}}\n{text}");
        crate::config::read("shop.yaml", &text, self.0.path().into()).unwrap_or_else(|findings| panic!("{findings:?}"))
    }

    /// All findings as lines, this folder's name taken out.
    fn lines(&self, text: &str) -> Vec<String> {
        let config = self.config(text);
        let found = match load(&config) {
            Err(findings) => findings,
            Ok(user) => match user.look_up(&config, None) {
                Ok(found) | Err(found) => user.warnings.into_iter().chain(found).collect(),
            },
        };
        let folder = format!("{}/", self.0.path().display());
        found.iter().map(|finding| finding.to_string().replace(&folder, "")).collect()
    }

    fn load(&self, text: &str) -> (User, Config) {
        let config = self.config(text);
        (load(&config).unwrap_or_else(|findings| panic!("{findings:?}")), config)
    }
}

fn text_of(tree: &Tree, path: &str) -> String {
    String::from_utf8(tree.blob(path).unwrap_or_else(|| panic!("no {path}")).read().unwrap()).unwrap()
}

#[test]
fn files_come_in_with_their_owner_and_mode_and_secrets_as_references_only() {
    let shop = Shop::new(&[("till.conf", b"colour = red\n")]);
    let (user, config) = shop.load(
        "files:\n  - {from: till.conf, to: /etc/shop/till.conf, mode: \"0640\", owner: 7, group: 8}\n  \
         - {text: \"user=till password={secret: till-db}\", to: /etc/shop/db.conf, mode: \"0600\", owner: 7}\n",
    );
    let mut root = Tree::default();
    user.add_to(&mut root, &config).unwrap();
    let entry = root.get("etc/shop/till.conf").unwrap();
    assert_eq!((entry.mode, entry.owner, entry.group), (0o640, 7, 8));
    assert_eq!(root.get("etc/shop/db.conf").unwrap().node, Node::Link("/run/bakelite/files/etc/shop/db.conf".into()));
    assert_eq!(text_of(&root, "usr/lib/bakelite/user/files/etc/shop/db.conf"), "user=till password={secret: till-db}");
    assert_eq!(user.manifest.secrets, [secret::SecretRef::Secret("till-db".into())]);
    let placed = &user.manifest.placed[0];
    assert_eq!((placed.to.as_str(), placed.mode, placed.owner), ("/run/bakelite/files/etc/shop/db.conf", 0o600, 7));
    assert_eq!((placed.quoting, placed.pass), (Some(Quoting::Plain), Pass::Early));
    assert_eq!(placed.from, "/usr/lib/bakelite/user/files/etc/shop/db.conf");
}

#[test]
fn what_is_wrong_with_files_is_said_with_its_line() {
    let mut arm = vec![0; 64];
    arm[..6].copy_from_slice(b"\x7fELF\x02\x01");
    arm[18] = 183;
    let key = b"-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\n";
    let shop = Shop::new(&[("till", &arm), ("key.pem", key), ("a", b"a")]);
    let found = shop.lines(
        "files:\n- {from: none, to: /etc/1}\n- {from: till, to: /usr/bin/till}\n- {from: key.pem, to: /etc/3}\n\
         - {from: a, to: /etc/4, sha256: 0000000000000000000000000000000000000000000000000000000000000000}\n- {from: ., to: /etc/5}\n",
    );
    assert_eq!(
        found,
        [
            "shop.yaml:4:4: files[0].from: none can't be read: No such file or directory (os error 2); try the name of a file, relative to this one",
            "shop.yaml:5:4: files[1].from: is a 64-bit program for arm64, the board is amd64; try the program built for the board",
            "shop.yaml:6:4: files[2].from: holds a private key, which must not be in an image; try `{secret: NAME}` in its place, and the key in /var/lib/bakelite/secrets on the machine",
            "shop.yaml:7:25: files[3].sha256: a has another sum, ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb; try the sum of the file that you mean, after a look at why it differs",
            "shop.yaml:8:4: files[4].from: . is not a file; try one entry for each file",
        ]
    );
    assert!(!found.concat().contains("hunter2"));
}

#[test]
fn nothing_of_a_users_gets_in_the_way_of_a_folder_or_through_a_link() {
    let shop = Shop::new(&[]);
    let (user, config) = shop.load("files: [{text: x, to: /etc/shop/x}]\n");
    for (path, node) in [("etc/shop", Node::Link("/run".into())), ("etc/shop/x", Node::Folder)] {
        let mut root = Tree::default();
        root.put(path, Entry { mode: 0o755, owner: 0, group: 0, node });
        let error = user.add_to(&mut root, &config).unwrap_err().to_string();
        assert!(error.starts_with("/etc/shop/x can't be put into the image: /etc/shop"), "{error}");
    }
}

#[test]
fn a_companys_authority_is_added_to_the_bundle() {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let shop = Shop::new(&[("ca.pem", pem.as_bytes()), ("bad.pem", b"x")]);
    let (user, config) = shop.load("trust: [ca.pem]\n");
    let mut root = Tree::default();
    root.file("etc/ssl/certs/ca-certificates.crt", 0o644, "public\n");
    user.add_to(&mut root, &config).unwrap();
    assert_eq!(text_of(&root, "etc/ssl/certs/ca-certificates.crt"), format!("public\n{}", pem.replace("\r\n", "\n")));
    let found = shop.lines("trust: [bad.pem]\n");
    assert_eq!(
        found,
        ["shop.yaml:3:9: trust[0]: bad.pem holds no certificate; try a file with `-----BEGIN CERTIFICATE-----`"]
    );
}

#[test]
fn secrets_of_k3s_go_into_a_drop_in_as_references() {
    let shop = Shop::new(&[]);
    let text = "k3s: {token: {seed: join}, config: {datastore-endpoint: {secret: db}, disable: [traefik]}}\n";
    let (user, config) = shop.load(text);
    let mut root = Tree::default();
    user.add_to(&mut root, &config).unwrap();
    assert_eq!(
        text_of(&root, "usr/lib/bakelite/user/k3s/secrets.yaml"),
        "# Written by bakelite from `k3s.config` in the appliance.\n{\"datastore-endpoint\":{secret: db}}\n"
    );
    assert_eq!(user.manifest.placed[0].to, "/etc/rancher/k3s/config.yaml.d/90-bakelite-secrets.yaml");
    let names: Vec<&str> = user.manifest.secrets.iter().map(|reference| reference.name()).collect();
    assert_eq!(names, ["db", "join"]);
}

#[test]
fn registries_are_k3s_own_words_with_references_in_place_of_logins() {
    let shop = Shop::new(&[]);
    let (user, config) = shop.load(
        "registries:\n  mirrors: {docker.io: {endpoint: [\"https://r.shop:5000\"]}}\n  configs: {\"r.shop:5000\": {auth: {username: till, \
         password: {secret: registry}}}}\n",
    );
    let mut root = Tree::default();
    user.add_to(&mut root, &config).unwrap();
    let text = text_of(&root, "usr/lib/bakelite/user/k3s/registries.yaml");
    let rendered = secret::render(&text, Quoting::Json, |_| Some("hun\"ter2".into())).unwrap();
    let read: serde_json::Value = serde_yaml::from_str(&rendered).unwrap();
    assert_eq!(read["configs"]["r.shop:5000"]["auth"]["password"], "hun\"ter2");
    assert_eq!(read["mirrors"]["docker.io"]["endpoint"][0], "https://r.shop:5000");
    assert_eq!(user.manifest.placed[0].to, "/etc/rancher/k3s/registries.yaml");
    assert_eq!((user.manifest.placed[0].mode, user.manifest.placed[0].pass), (0o600, Pass::Settle));
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: till}\nspec:\n  containers:\n    - name: till\n      image: shop/till:1\n      \
                   resources: {requests: {cpu: 50m}, limits: {memory: 64Mi}}\n";

#[test]
fn archives_go_beside_k3s_own_and_images_are_looked_up_in_them() {
    let archive = tar(&docker("shop/till:1", "amd64"));
    let shop = Shop::new(&[("till.tar", &archive), ("app/pod.yaml", POD.as_bytes())]);
    let (user, config) = shop.load("images: [till.tar]\nmanifests: [app]\n");
    assert!(user.look_up(&config, None).unwrap().is_empty() && user.warnings.is_empty());
    let mut payload = crate::payload::rehearsal(Blob::from("program")).unwrap();
    user.add_images(&mut payload);
    let file = &payload.manifest.files[1];
    assert_eq!(file.path, "/usr/lib/bakelite/payload/images/till.tar");
    assert!(file.images && file.size == archive.len() as u64 && payload.blobs.len() == 2);
    assert_eq!(user.manifest.placed[0].to, "/var/lib/rancher/k3s/server/manifests/bakelite-app-pod.yaml");

    let missing = shop.lines("manifests: [app]\n");
    assert_eq!(
        missing,
        [
            "app/pod.yaml:7:14: warning: Pod till, container till: the image docker.io/shop/till:1 is in no archive, so the machine \
          needs a network to start it; try `docker save docker.io/shop/till:1 -o FILE.tar` and `images: [FILE.tar]`"
        ]
    );
    assert!(
        shop.lines("manifests: [app]\nk3s: {airgap: true}\n")[0]
            .contains("app/pod.yaml:7:14: Pod till, container till: the image")
    );
    let mirrors = "manifests: [app]\nregistries: {mirrors: {\"*\": {endpoint: [\"https://r\"]}}}\n";
    assert!(shop.lines(mirrors)[0].contains("so the machine needs one of its `registries.mirrors`"));
}

#[test]
fn an_image_that_is_there_twice_or_for_another_processor_is_told() {
    let one = tar(&docker("shop/till:1", "amd64"));
    let shop =
        Shop::new(&[("a.tar", &one), ("b.tar", &one), ("arm.tar", &tar(&docker("x:1", "arm64"))), ("sub/a.tar", &one)]);
    let found = shop.lines("images: [a.tar, b.tar]\n");
    assert_eq!(
        found,
        [
            "shop.yaml:3:17: images[1]: b.tar holds docker.io/shop/till:1, which a.tar holds as well; try taking it out of one of them"
        ]
    );
    let found = shop.lines("images: [arm.tar, none.tar, a.tar, sub/a.tar]\n");
    assert!(found[0].starts_with(
        "shop.yaml:3:10: images[0]: arm.tar has the image docker.io/library/x:1 for linux/arm64, but the board"
    ));
    assert!(found[0].ends_with("try `docker pull --platform linux/amd64 NAME`, then saving it again"), "{}", found[0]);
    assert!(found[1].contains("images[1]: none.tar can't be read"), "{}", found[1]);
    assert!(found[2].contains("images[3]: sub/a.tar has the same file name as a.tar"), "{}", found[2]);
}

#[test]
fn images_of_k3s_own_archive_count_and_clash() {
    let (own, digest) = oci("docker.io/shop/till:2", &["amd64"]);
    let by_digest = POD.replace("shop/till:1", &format!("shop/till@{digest}"));
    let shop = Shop::new(&[
        ("k3s.tar", &tar(&docker("rancher/mirrored-pause:3.6", "amd64"))),
        ("mine.tar", &tar(&docker("rancher/mirrored-pause:3.6", "amd64"))),
        ("oci.tar", &tar(&own)),
        ("pause.yaml", POD.replace("shop/till:1", "rancher/mirrored-pause:3.6").as_bytes()),
        ("other.yaml", POD.replace("shop/till:1", "rancher/other:1").replace("till", "other").as_bytes()),
        ("digest.yaml", by_digest.replace("name: till", "name: digest").as_bytes()),
    ]);
    let mut payload = crate::payload::rehearsal(Blob::from("program")).unwrap();
    payload.manifest.kind = bakelite_spec::appliance::Payload::Official;
    payload.manifest.files.push(PayloadFile { path: "/x".into(), size: 1, sha256: String::new(), images: true });
    payload.blobs.push(Blob::file(shop.0.path().join("k3s.tar")).unwrap());
    let (user, config) = shop
        .load("images: [mine.tar, oci.tar]\nmanifests: [pause.yaml, other.yaml, digest.yaml]\nk3s: {airgap: false}\n");
    let found = user.look_up(&config, Some(&payload)).unwrap_err();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].to_string().contains("which k3s's own archive holds as well"));
    assert!(
        found[1].problem.contains("docker.io/rancher/other:1 is in no archive")
            && found[1].severity == Severity::Warning
    );
    assert!(user.look_up(&config, None).unwrap().is_empty(), "without k3s's archive its own names aren't judged");
}

#[test]
fn workloads_of_manifests_are_known_by_the_names_that_the_datastore_has() {
    let object = |version: &str, kind: &str, metadata: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\n---\n")
    };
    let all = [
        object("apps/v1", "StatefulSet", "{name: db, namespace: shop}"),
        object("apps/v1", "Deployment", "{name: till}"),
        object("apps/v1", "DaemonSet", "{name: probe}"),
        object("apps/v1", "Deployment", "{generateName: till-}"),
        object("v1", "ConfigMap", "{name: till}"),
        object("example.test/v1", "Deployment", "{name: other}"),
    ];
    let shop = Shop::new(&[("all.yaml", all.concat().as_bytes())]);
    let (user, _) = shop.load("manifests: [all.yaml]\n");
    let expected = ["daemonsets/default/probe", "deployments/default/till", "statefulsets/shop/db"];
    assert_eq!(user.manifest.workloads, expected);
}

#[test]
fn manifests_are_read_as_k3s_would() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\n";
    let shop = Shop::new(&[
        ("1.yaml", format!("{secret}stringData: {{password: hunter2}}\n").as_bytes()),
        ("2.yaml", format!("{secret}data:\n  password: {{secret: db}}\n").replace("db}\n", "db2}\n").as_bytes()),
        ("3.yaml", b"a: [\n"),
        ("4.yaml", b"kind: Pod\n"),
        ("5.yaml", b"apiVersion: v1\nkind: Pod\nmetadata: {}\n"),
        ("6.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {x: \"pw={secret: db}\"}\n"),
        ("7.yaml", b"\xff\xfe"),
        ("8.txt", b"x"),
        ("9.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: k}\ndata:\n  k: |\n    -----BEGIN PRIVATE KEY-----\n"),
        ("dir/x.txt", b"x"),
        ("10.yaml", POD.as_bytes()),
        ("11.json", br#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"till"}}],"metadata":{"name":"l"}}"#),
    ]);
    let found = shop.lines(
        "manifests: [1.yaml, 2.yaml, 3.yaml, 4.yaml, 5.yaml, 6.yaml, 7.yaml, 8.txt, 9.yaml, dir, none.yaml, 10.yaml, 11.json]\n",
    );
    let expected = [
        "1.yaml:4:24: stringData.password: Secret db has a secret written out, which must not be in an image; try `stringData: {NAME: {secret: NAME}}`, which the device fills in",
        "2.yaml: 2.yaml", // see below
        "3.yaml: is no YAML: ",
        "4.yaml:1:1: has no `apiVersion`, so it is no Kubernetes object; try adding it",
        "5.yaml:1:1: has no `metadata.name`; try adding it",
        "6.yaml: refers to a secret within a text or a comment, where it can't be filled in safely; try `{secret: NAME}` as the whole value, without quotes",
        "7.yaml: is not UTF-8 text; try saving it as UTF-8",
        "shop.yaml:3:69: manifests[7]: 8.txt ends in none of yaml, yml, json; try a YAML or JSON file, or a folder of them",
        "9.yaml: holds a private key, which must not be in an image",
        "shop.yaml:3:84: manifests[9]: dir holds no manifest",
        "shop.yaml:3:89: manifests[10]: none.yaml can't be read",
        "11.json:1:43: items[0]: Pod till is in 10.yaml as well: the two would overwrite each other; try taking one of them out",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected).filter(|(_, expected)| !expected.starts_with("2.yaml")) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert!(
        found[1].starts_with("2.yaml:5:13: data.password: Secret db") && found[1].contains("`data` takes base64"),
        "{}",
        found[1]
    );
    assert!(!found.concat().contains("hunter2"));
}

#[test]
fn a_secret_by_reference_is_a_template() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData:\n  password: {secret: db}\n";
    let shop = Shop::new(&[("s.yaml", text.as_bytes())]);
    let (user, _) = shop.load("manifests: [s.yaml]\n");
    assert_eq!(user.manifest.placed[0].quoting, Some(Quoting::Json));
    assert_eq!(user.manifest.secrets.len(), 1);
    let rendered = secret::render(text, Quoting::Json, |_| Some("a: \"b\"\n".into())).unwrap();
    let read: serde_json::Value = serde_yaml::from_str(&rendered).unwrap();
    assert_eq!(read["stringData"]["password"], "a: \"b\"\n");
}

#[test]
fn habits_that_fail_without_a_network_or_take_all_memory_are_told() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      initContainers:\n      - {name: i, image: Web}\n      \
                containers:\n      - {name: a, image: rancher/x:1, imagePullPolicy: Always}\n      - {name: b, image: rancher/y, resources: {requests: {cpu: 1}}}\n";
    let shop = Shop::new(&[("web.yaml", text.as_bytes())]);
    let found = shop.lines("manifests: [web.yaml]\n");
    let expected = [
        "web.yaml:10:56: warning: spec.template.spec.containers[0].imagePullPolicy: Deployment web, container a: `imagePullPolicy: Always` asks a registry at each start, and fails without a network; try `IfNotPresent`",
        "web.yaml:10:9: warning: spec.template.spec.containers[0]: Deployment web, container a has no requests and no limits: it may take all that the machine has; try `resources:",
        "web.yaml:11:26: warning: spec.template.spec.containers[1].image: Deployment web, container b: `rancher/y` means the newest, so a registry is asked at each start; try a tag, or `imagePullPolicy: IfNotPresent`",
        "web.yaml:11:9: warning: spec.template.spec.containers[1]: Deployment web, container b has no limits: it may",
        "web.yaml:8:26: spec.template.spec.initContainers[0].image: Deployment web, container i: `Web` is no image's name; try `registry/name:tag`",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

#[test]
fn charts_are_served_by_k3s_and_what_they_name_is_looked_up() {
    let helm = |chart: &str| {
        format!(
            "apiVersion: helm.cattle.io/v1\nkind: HelmChart\nmetadata: {{name: c{0}}}\nspec: {{chart: \"{chart}\"}}\n",
            chart.len()
        )
    };
    let served = "https://%{KUBERNETES_API}%/static/charts/";
    let values =
        "image: {repository: shop/till, tag: 3}\nsidecar: {image: \"shop/side:1\"}\nother: {image: {tag: x}}\n";
    let shop = Shop::new(&[
        ("till.tgz", &chart(values)),
        ("bad.tgz", b"x"),
        ("traefik-1.tgz", b"x"),
        ("ok.yaml", helm(&format!("{served}till.tgz")).as_bytes()),
        ("slip.yaml", helm(&format!("{served}til.tgz")).as_bytes()),
        ("web.yaml", helm("stable/till").as_bytes()),
        ("side.tar", &tar(&docker("shop/side:1", "amd64"))),
    ]);
    let (user, _) = shop.load("charts: [till.tgz]\nmanifests: [ok.yaml]\nimages: [side.tar]\n");
    let places: Vec<&str> = user.manifest.placed.iter().map(|placed| placed.to.as_str()).collect();
    assert_eq!(
        places,
        [
            "/var/lib/rancher/k3s/server/manifests/bakelite-ok.yaml",
            "/var/lib/rancher/k3s/server/static/charts/till.tgz"
        ]
    );
    let found = shop.lines("charts: [till.tgz]\nmanifests: [ok.yaml]\nimages: [side.tar]\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("till.tgz: which images its templates name is only known on the device"), "{}", found[0]);
    assert!(
        found[1].contains("till.tgz (values.yaml): the image docker.io/shop/till:3 is in no archive"),
        "{}",
        found[1]
    );
    let found = shop.lines(
        "charts: [till.tgz, bad.tgz, traefik-1.tgz, till.tgz]\nmanifests: [slip.yaml, web.yaml]\nk3s: {airgap: true}\n",
    );
    let starts = [
        "slip.yaml:4:7: spec.chart: there is no chart til.tgz; try `https://%{KUBERNETES_API}%/static/charts/till.tgz`",
        "web.yaml:4:7: spec.chart: the chart `stable/till` is fetched from the network by the device; try `charts: [FILE.tgz]`",
        "shop.yaml:3:10: warning: charts[0]: till.tgz: which images",
        "shop.yaml:3:20: charts[1]: bad.tgz is damaged, or no packaged chart",
        "shop.yaml:3:29: charts[2]: traefik-1.tgz has the name of a chart of k3s's own",
        "shop.yaml:3:44: charts[3]: till.tgz has the name of another chart",
    ];
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
    assert_eq!(found.len(), starts.len(), "{found:#?}");
}
