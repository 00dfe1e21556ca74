//! `Vary`: the request headers that an answer depends on (RFC 9110, section 12.5.5).

/// The names of `wanted` that no `Vary` of these values has; none where one of them is `*`, which
/// stands for every name and more.
pub fn missing<'n, 'v>(
    present: impl Iterator<Item = &'v [u8]>,
    wanted: impl IntoIterator<Item = &'n str>,
) -> Vec<&'n str> {
    let mut missing: Vec<_> = wanted.into_iter().collect();
    for name in present.flat_map(|value| value.split(|byte| *byte == b',')) {
        match name.trim_ascii() {
            b"*" => return Vec::new(),
            name => missing.retain(|wanted| !wanted.as_bytes().eq_ignore_ascii_case(name)),
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_missing() {
        let missing = |present: &[&str]| {
            missing(present.iter().map(|it| it.as_bytes()), ["X-Auth-Token", "X-Service-Token"])
                .join(", ")
        };
        for present in [&[][..], &[""], &["Accept, Origin"], &["X-Auth-Tokens", ","], &["**"]] {
            assert_eq!(missing(present), "X-Auth-Token, X-Service-Token", "{present:?}");
        }
        for present in
            [&["x-auth-TOKEN"][..], &["Accept,X-Auth-Token ,Origin"], &["A", "X-Auth-Token"]]
        {
            assert_eq!(missing(present), "X-Service-Token", "{present:?}");
        }
        for present in
            [&["*"][..], &["Accept", " * "], &["Accept, *"], &["X-Service-Token,X-Auth-Token"]]
        {
            assert_eq!(missing(present), "", "{present:?}");
        }
    }
}
