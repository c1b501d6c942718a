//! Patterns of names: `shop-*` fits `shop-17`. What a grant is for, and what an appliance's host names look like.

/// Whether a name fits a pattern, in which `*` stands for any number of characters, none included.
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // The earliest place is always good enough: what follows has the most room then.
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The pattern that all host names of an appliance fit: each `{…}` of its own is a `*`.
pub fn of_hostname(hostname: &str) -> String {
    let mut pattern = String::new();
    let mut rest = hostname;
    while let Some((before, after)) = rest.split_once('{') {
        pattern.push_str(before);
        pattern.push('*');
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    pattern + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_anything_and_the_rest_is_itself() {
        for (pattern, name) in
            [("shop-*", "shop-17"), ("shop-*", "shop-"), ("*", ""), ("a*b*c", "abbc"), ("a*b*c", "axbxbc"), ("x", "x")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("shop-*", "till-17"), ("x", "xx"), ("", "x"), ("a*b*c", "acb"), ("ab*ba", "aba"), ("*x", "xy")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        assert_eq!(of_hostname("shop-{serial}-{board}x"), "shop-*-*x");
        assert_eq!(of_hostname("shop-17"), "shop-17");
        assert!(fits(&of_hostname("bakelite-{serial}"), "bakelite-abc"));
    }
}
