//! Names of container images, as people write them and as a container runtime means them.
//!
//! `nginx`, `docker.io/nginx:latest` and `docker.io/library/nginx:latest` are one image (distribution/reference).

use std::fmt;

/// An image's whole name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Registry and repository.
    pub repository: String,
    /// The tag; `latest` where neither tag nor digest was given, empty where only a digest was.
    pub tag: String,
    /// The digest, if one was given.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads a name; `None` where no runtime would take it.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_string()).filter(|digest| is_digest(digest))),
            None => (text, None),
        };
        if text.contains('@') && digest.is_none() {
            return None;
        }
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (rest, if digest.is_some() { "" } else { "latest" }),
        };
        let is_domain = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let (domain, path) = match name.split_once('/') {
            Some((first, path)) if is_domain(first) => (first, path.to_string()),
            _ => ("docker.io", name.to_string()),
        };
        let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
        let path = if domain == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
        let good_path = path.split('/').all(|part| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        });
        let good_tag = tag.len() <= 128 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let tag_is_there = !tag.is_empty() || digest.is_some();
        (good_path && good_tag && tag_is_there && !domain.is_empty()).then(|| Self {
            repository: format!("{domain}/{path}"),
            tag: tag.into(),
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if !self.tag.is_empty() {
            write!(f, ":{}", self.tag)?;
        }
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_names_mean_whole_ones() {
        let whole = |text: &str| Reference::parse(text).map(|reference| reference.to_string()).unwrap_or_default();
        assert_eq!(whole("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(whole("index.docker.io/nginx:1.25"), "docker.io/library/nginx:1.25");
        assert_eq!(whole("rancher/mirrored-pause:3.6"), "docker.io/rancher/mirrored-pause:3.6");
        assert_eq!(whole("localhost:5000/a/b:c"), "localhost:5000/a/b:c");
        assert_eq!(whole("ghcr.io/shop/till"), "ghcr.io/shop/till:latest");
        let digest = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(whole(&format!("nginx@{digest}")), format!("docker.io/library/nginx@{digest}"));
        assert_eq!(whole(&format!("nginx:1@{digest}")), format!("docker.io/library/nginx:1@{digest}"));
        for bad in ["", "Nginx", "a//b", "nginx:", "nginx@sha256:12", "a b", "x:y z", "{{ .Values.image }}"] {
            assert_eq!(Reference::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_the_same(text in "([a-z.]{1,8}(:[0-9]{1,4})?/)?[a-z/-]{1,12}(:[a-zA-Z0-9]{1,5})?") {
            if let Some(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()), Some(reference));
            }
        }
    }
}
