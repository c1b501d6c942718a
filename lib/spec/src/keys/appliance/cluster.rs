//! k3s: what it brings, where it gets images from, and how it runs.

use crate::keys::{Form, Key, Kind, flag, key, optional, section};

pub const CLUSTER: &[Key] = &[
    key(
        "images",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Archives of container images, as `docker save` or an OCI layout, plain or compressed with gzip or zstd. k3s imports them without a network.",
    ),
    key(
        "manifests",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Kubernetes manifests, files or folders of them, which k3s deploys at its start. A secret value is `{secret: name}`, without quotes.",
    ),
    key(
        "charts",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Helm charts (.tgz), served by k3s itself; a HelmChart manifest names one as `https://%{KUBERNETES_API}%/static/charts/FILE.tgz`.",
    ),
    section("registries", "Mirrors and logins of container registries, as in k3s's registries.yaml."),
    key(
        "registries.mirrors",
        Kind::Named,
        "{}",
        "Where images of a registry come from, by its name; `\"*\"` means all.",
    ),
    key(
        "registries.mirrors{}.endpoint",
        Kind::List(&Kind::Text(Form::Any)),
        "[]",
        "Addresses that are tried in this order.",
    ),
    key(
        "registries.mirrors{}.rewrite",
        Kind::Map(&Kind::Text(Form::Any)),
        "{}",
        "Patterns of image names, and what they become at the mirror.",
    ),
    key("registries.configs", Kind::Named, "{}", "Logins and certificates, by the registry's host and port."),
    section("registries.configs{}.auth", "The login."),
    optional("registries.configs{}.auth.username", Kind::Text(Form::Any), "The user's name."),
    optional("registries.configs{}.auth.password", Kind::Secret, "The password, as `{secret: name}`."),
    optional("registries.configs{}.auth.token", Kind::Secret, "The token, as `{secret: name}`."),
    section("registries.configs{}.tls", "Certificates, by their paths on the device."),
    optional("registries.configs{}.tls.ca_file", Kind::Text(Form::DevicePath), "The authority's certificate."),
    optional("registries.configs{}.tls.cert_file", Kind::Text(Form::DevicePath), "This machine's certificate."),
    optional("registries.configs{}.tls.key_file", Kind::Text(Form::DevicePath), "The key of that certificate."),
    flag("registries.configs{}.tls.insecure_skip_verify", "Whether any certificate is believed."),
    section(
        "k3s",
        "The payload. `k3s: v1.36.2+k3s1` is short for `k3s.version`, `k3s: rehearsal` and `k3s: none` are short for `k3s.payload`.",
    ),
    key(
        "k3s.payload",
        Kind::Choice(&["official", "rehearsal", "none"]),
        "\"official\"",
        "`official`: k3s's own release files. `rehearsal`: a small stand-in that keeps k3s's outer contract, for trying things out. `none`: no workload at all.",
    ),
    key(
        "k3s.version",
        Kind::Text(Form::K3sVersion),
        "\"v1.36.2+k3s1\"",
        "The k3s release to fetch from its official site.",
    ),
    optional(
        "k3s.files",
        Kind::Text(Form::Any),
        "A folder with the release's own files (binary, air-gap images, sha256sum list), used in place of the official site.",
    ),
    flag(
        "k3s.airgap",
        "The machine never has a network to pull images from: an image that a manifest names and no archive holds is an error, not a warning.",
    ),
    key(
        "k3s.role",
        Kind::Choice(&["server", "agent"]),
        "\"server\"",
        "`server`: control plane and workloads. `agent`: workloads only; it joins the server that `k3s.server` names.",
    ),
    optional(
        "k3s.server",
        Kind::Text(Form::K3sServer),
        "The server to join, such as `https://192.168.1.100:6443`. Needs `k3s.token`.",
    ),
    optional(
        "k3s.token",
        Kind::Secret,
        "The token of the cluster to join, or of the one to found. Without it a machine that founds a cluster makes its own.",
    ),
    flag("k3s.cluster-init", "Founds a cluster of several servers, with etcd in place of SQLite. It needs an SSD."),
    flag(
        "k3s.agents",
        "Other machines join this server as agents: it then goes on looking after them as often as k3s does by itself.",
    ),
    key(
        "k3s.tier",
        Kind::Choice(&["auto", "512M", "1G", "2G", "4G"]),
        "\"auto\"",
        "For how much memory k3s is tuned: its components, limits of requests, reservations, evictions. `auto`: by the machine's memory.",
    ),
    key(
        "k3s.quiet",
        Kind::Choice(&["auto", "off"]),
        "\"auto\"",
        "`auto`: the only server of a cluster is kept from writing 1.6 GB a day while idle; it writes 0.1. `off`: k3s's own settings.",
    ),
    flag(
        "k3s.hardened",
        "No anonymous requests, an audit log of who changed what for 30 days, and a kubelet that insists on the kernel's settings.",
    ),
    key(
        "k3s.kubelet",
        Kind::Free,
        "{}",
        "Keys of a KubeletConfiguration, such as `nodeStatusUpdateFrequency: 20s`; they win over what the appliance would choose.",
    ),
    key("k3s.config", Kind::Free, "{}", "Keys for k3s's config.yaml; they win over what the appliance would choose."),
];
