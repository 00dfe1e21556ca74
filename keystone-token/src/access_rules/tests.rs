use super::*;

fn matches(path: &str, pattern: &str) -> bool {
    Pattern::new(pattern).is_some_and(|pattern| pattern.matches(path.as_bytes()))
}

fn permit(rules: &str, service_types: &[&str], method: &str, path: &str) -> bool {
    let service_types: Vec<_> = service_types.iter().map(|it| (*it).to_owned()).collect();
    let path = path.as_bytes();
    let action = Action {
        service_types: &service_types,
        method,
        raw_path: None,
        path,
        service_path: None,
        has_destination: false,
        queries: [b""; 2],
    };
    AccessRules::from_json(rules).permit(&action)
}

const COMPUTE: &str = r#"[
    {"id": "1", "service": "compute", "method": "GET", "path": "/v2.1/servers/*/ips"},
    {"id": "2", "service": "compute", "method": "POST", "path": "/v2.1/servers"}
]"#;

#[test]
fn paths_match_as_in_auth_token() {
    for (path, pattern) in [
        ("/v2/servers", "/v2/servers"),
        ("/v2/servers/123", "/v2/servers/{server_id}"),
        ("/v2/servers/123/", "/v2/servers/{server_id}/"),
        ("/v2/servers/123", "/v2/servers/*"),
        ("/v2/servers/123/", "/v2/servers/*/"),
        ("/v2/servers/123/456", "/v2/*/*/*"),
        ("/v2/123/servers/456", "/v2/{project_id}/servers/{server_id}"),
        ("/v2/servers/", "/v2/servers/**"),
        ("/v2/servers/123/", "/v2/servers/**"),
        ("/v2/servers/123/456", "/v2/servers/**"),
        ("/v2/servers", "**"),
        ("", "**"),
        ("/a/x/y/b", "/a/**/b"),
        ("/a//b", "/a/**/b"),
        ("/v1/img1", "/v1/img*"),
        ("/v1/1.img", "/v1/*.img"),
        ("/v1/a-b-c", "/v1/*-*"),
        ("/v1/a-b-c", "/v1/{a}-{b/c}"),
        ("/v1/ab", "/v1/{}{}"),
        ("/v1/a/b", "/v1/***"),
        ("/v1/x", "/v1/**x"),
        ("/v1/xx/xxx", "/v1/**x*"),
        ("/v1/x", "/v1/****x"),
    ] {
        assert!(matches(path, pattern), "{path} {pattern}");
    }
    for (path, pattern) in [
        ("/v2/servers/123", "/v2/servers"),
        ("/v2/servers", "/v2/servers/"),
        ("/v2/servers", "/v2/Servers"),
        ("/v2/servers//", "/v2/servers/{server_id}"),
        ("/v2/servers/", "/v2/servers/{server_id}"),
        ("/v2/servers", "/v2/servers/{server_id}"),
        ("/v2/servers/123/", "/v2/servers/{server_id}"),
        ("/v2/servers/123/456", "/v2/servers/*"),
        ("/v2/servers", "/v2/servers/**"),
        ("/v2/servers", "v2/servers"),
        ("/v2/servers/123/", "/v2/*/*/*"),
        ("/v2/servers/123/456/789", "/v2/*/*/*"),
        ("/a/b", "/a/**/b"),
        ("/v1/img", "/v1/img*"),
        ("/v1/img/1", "/v1/img*"),
        ("/v1/a", "/v1/{a}{b}"),
        ("/v1/", "/v1/***"),
        ("/v1/x", "/v1/**x*"),
        ("/", ""),
    ] {
        assert!(!matches(path, pattern), "{path} {pattern}");
    }
}

#[test]
fn all_that_is_no_wildcard_means_itself() {
    for text in [
        "/v2.1", "/a+", "/(a|b)", "/[a-z]", "/a?", "/^a$", "/a\\d", "/a{b", "/a}b", "/}{", "/ü",
        "/a b",
    ] {
        assert!(matches(text, text), "{text}");
    }
    for (path, pattern) in [
        ("/v2x1", "/v2.1"),
        ("/aa", "/a+"),
        ("/a", "/(a|b)"),
        ("/a", "/[a-z]"),
        ("/", "/a?"),
        ("/a1", "/a\\d"),
        ("/ab", "/a{b"),
        ("/ab", "/a}b"),
        ("/a\n", "/a"),
    ] {
        assert!(!matches(path, pattern), "{path} {pattern}");
    }
}

#[test]
fn a_rule_may_be_percent_encoded() {
    for (path, pattern) in [
        ("/my object", "/my%20object"),
        ("/ü", "/%c3%BC"),
        ("/*", "/%2A"),
        ("/{a}", "/%7ba%7D"),
        ("/100%", "/100%"),
        ("/%zz", "/%zz"),
        ("/%2", "/%2"),
        ("/%20", "/%2520"),
        ("/a b c", "/*%20*"),
    ] {
        assert!(matches(path, pattern), "{path} {pattern}");
    }
    for (path, pattern) in [
        ("/my%20object", "/my%20object"),
        ("/x", "/%2A"),
        ("/a/b", "/a%2Fb"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a\0", "/a%00"),
    ] {
        assert!(!matches(path, pattern), "{path} {pattern}");
    }
}

#[test]
fn a_path_need_not_be_text() {
    let pattern = |pattern| Pattern::new(pattern).unwrap();
    assert!(pattern("/v1/*").matches(b"/v1/\xff\xfe"));
    assert!(pattern("/%ff/**").matches(b"/\xff/\xfe/\n"));
    assert!(!pattern("/*").matches(b"/\xff/"));
}

#[test]
fn no_pattern_takes_long() {
    let path = format!("/{}", "a/".repeat(4000));
    for pattern in ["/**a".repeat(50), "/***".repeat(50), "**/*".repeat(50), "**a/".repeat(50)] {
        assert!(!matches(&path, &format!("{pattern}b")));
    }
}

#[test]
fn service_method_and_path_must_be_those_of_one_rule() {
    let compute = ["compute"];
    assert!(permit(COMPUTE, &compute, "GET", "/v2.1/servers/1/ips"));
    assert!(permit(COMPUTE, &compute, "POST", "/v2.1/servers"));
    assert!(permit(COMPUTE, &["compute_legacy", "compute"], "POST", "/v2.1/servers"));
    assert!(!permit(COMPUTE, &compute, "POST", "/v2.1/servers/1/ips"));
    assert!(!permit(COMPUTE, &compute, "GET", "/v2.1/servers"));
    assert!(!permit(COMPUTE, &compute, "HEAD", "/v2.1/servers/1/ips"));
    assert!(!permit(COMPUTE, &compute, "post", "/v2.1/servers"));
    assert!(!permit(COMPUTE, &compute, "POST", "/v2.1/servers/"));
    assert!(!permit(COMPUTE, &["Compute"], "POST", "/v2.1/servers"));
    assert!(!permit(COMPUTE, &["image"], "POST", "/v2.1/servers"));
    assert!(!permit(COMPUTE, &[], "POST", "/v2.1/servers"));
}

#[test]
fn a_token_may_always_be_validated() {
    for (types, method, path, permitted) in [
        (&["identity"][..], "GET", "/v3/auth/tokens", true),
        (&["image", "identity"], "GET", "/identity/v3/auth/tokens", true),
        (&["identity"], "HEAD", "/v3/auth/tokens", false),
        (&["identity"], "DELETE", "/v3/auth/tokens", false),
        (&["identity"], "GET", "/v3/auth/tokens/", false),
        (&["identity"], "GET", "/v3/auth/tokens/x", false),
        (&["identity"], "GET", "/xv3/auth/tokens", false),
        (&["image"], "GET", "/v3/auth/tokens", false),
        (&[], "GET", "/v3/auth/tokens", false),
    ] {
        assert_eq!(permit("[]", types, method, path), permitted, "{types:?} {method} {path}");
    }
}

#[test]
fn malformed_rules_permit_nothing() {
    for rule in [
        r#"{"method": "GET", "path": "/**"}"#,
        r#"{"service": "image", "path": "/**"}"#,
        r#"{"service": "image", "method": "GET"}"#,
        r#"{"service": "image", "method": "GET", "path": null}"#,
        r#"{"service": "image", "method": ["GET"], "path": "/**"}"#,
        r#"{"service": 1, "method": "GET", "path": "/**"}"#,
        r#"["image", "GET", "/**"]"#,
        "null",
        r#""/**""#,
    ] {
        assert!(!permit(&format!("[{rule}]"), &["image"], "GET", "/v2"), "{rule}");
        assert!(!permit(rule, &["image"], "GET", "/v2"), "{rule}");
        let good = r#"{"service": "image", "method": "GET", "path": "/**"}"#;
        assert!(permit(&format!("[{rule}, {good}]"), &["image"], "GET", "/v2"), "{rule}");
    }
    for rules in ["", "[", "{}", "null", "[]", "[[]]"] {
        assert!(!permit(rules, &["image"], "GET", "/v2"), "{rules}");
    }
}

#[test]
fn rules_that_would_take_long_permit_nothing() {
    let rule = |path: &str| format!(r#"{{"service": "image", "method": "GET", "path": "{path}"}}"#);
    let list = |rules: &[String]| format!("[{}]", rules.join(","));
    let long = format!("/{}", "a".repeat(8_000));
    // As long as a rule of Keystone's may be.
    let dear = rule(&format!("/{}**", "**a".repeat(41)));
    assert!(permit(&list(std::slice::from_ref(&dear)), &["image"], "GET", &long));
    let vain = rule(&format!("/{}*/**a", "**a".repeat(40)));
    // Where two of these are allowed for, a third rule is not looked at, though it would permit.
    assert!(!permit(&list(&[vain.clone(), vain.clone(), dear]), &["image"], "GET", &long));

    // What does not begin or end so costs nothing, and neither does what is for something else.
    let others: Vec<_> = (0..1_000).map(|n| rule(&format!("/v2/{n}/**/x*"))).collect();
    let mut rules = [others, vec![vain.replace("image", "other"); 10]].concat();
    rules.extend((0..40).map(|n| rule(&format!("/**/{n}"))));
    rules.push(rule("/**"));
    assert!(permit(&list(&rules), &["image"], "GET", &long));
}

#[test]
fn a_request_of_swifts_bulk_middleware_is_told_by_its_query() {
    let is_bulk = |service_type: &str, queries: [&str; 2]| {
        let service_types = ["image".to_owned(), service_type.to_owned()];
        let action = Action {
            service_types: &service_types,
            method: "POST",
            raw_path: None,
            path: b"/v1/a",
            service_path: None,
            has_destination: false,
            queries: queries.map(str::as_bytes),
        };
        action.is_bulk()
    };
    for query in [
        "bulk-delete",
        "bulk-delete=true",
        "extract-archive=tar.gz",
        "format=json&bulk-delete",
        "&&bulk-delete&",
        "a;bulk-delete",
        "bulk%2Ddelete",
        "%65xtract-archive=",
        "a#&bulk-delete",
    ] {
        assert!(is_bulk("object-store", [query, ""]), "{query}");
        assert!(is_bulk("object-store", ["a", query]), "{query}");
        assert!(!is_bulk("volume", [query, query]), "{query}");
    }
    for query in ["", "bulk", "bulk-delete2", "a=bulk-delete", "Bulk-Delete", "bulk+delete"] {
        assert!(!is_bulk("object-store", [query, query]), "{query}");
    }
}
