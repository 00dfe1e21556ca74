//! The documents agree with the code and with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use keystone_conf::directives;
use keystone_token::result::AuthResult;

mod operators;

/// A directive, by what its section says or the table has.
#[derive(Debug, PartialEq)]
struct Directive {
    contexts: String,
    /// As the section writes it; the table has plain values only.
    default: Option<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    let text = fs::read_to_string(root().join(path));
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The directives of the table by their names, each with its contexts and its default.
fn table() -> BTreeMap<String, Directive> {
    let rows = directives::<()>().into_iter().flatten();
    let row = |it: &keystone_conf::Directive<()>| {
        let default = it.default.map(|default| format!("`{default}`"));
        let directive = Directive { contexts: it.contexts.names().join(", "), default };
        (it.name().to_owned(), directive)
    };
    rows.map(row).collect()
}

/// The directives that have a section, from the line below each heading.
fn sections() -> BTreeMap<String, Directive> {
    let text = read("docs/directives.md");
    let mut found = BTreeMap::new();
    for section in text.split("\n### ").skip(1) {
        let (name, body) = section.split_once('\n').unwrap();
        let body = body.split("\n## ").next().unwrap();
        let field = |label: &str| {
            let (_, rest) = body.split_once(&format!("**{label}:** "))?;
            Some(rest.split("\n\n").next()?.replace('\n', " "))
        };
        let syntax = field("Syntax").unwrap_or_else(|| panic!("{name} has no syntax"));
        assert!(syntax.starts_with(&format!("**`{name}`**")), "{name}: {syntax}");
        let contexts = field("Context").unwrap_or_else(|| panic!("{name} has no context"));
        let default = field("Default").unwrap_or_else(|| panic!("{name} has no default"));
        let directive = Directive { contexts, default: Some(default) };
        assert!(found.insert(name.to_owned(), directive).is_none(), "{name} is there twice");
    }
    found
}

#[test]
fn every_directive_is_described_with_its_contexts_and_none_else() {
    let contexts = |directives: BTreeMap<String, Directive>| -> BTreeMap<String, String> {
        directives.into_iter().map(|(name, directive)| (name, directive.contexts)).collect()
    };
    assert_eq!(contexts(sections()), contexts(table()));
}

#[test]
fn every_alias_is_in_the_section_of_its_directive() {
    let text = read("docs/directives.md").replace('\n', " ");
    let told = text.split(" ### ").skip(1).flat_map(|section| {
        let name = section.split(' ').next().unwrap();
        let told = section.split('`').zip(section.split('`').skip(1));
        told.filter(|(_, rest)| rest.starts_with(" is another name of this directive"))
            .map(move |(alias, _)| (name.to_owned(), alias.to_owned()))
    });
    let known = directives::<()>().into_iter().flatten().filter_map(|it| {
        let alias = it.alias?.to_str().unwrap();
        Some((it.name().to_owned(), alias.to_owned()))
    });
    let known: BTreeSet<_> = known.collect();
    assert!(!known.is_empty());
    assert_eq!(told.collect::<BTreeSet<_>>(), known);
}

#[test]
fn the_table_of_all_directives_has_them_all_with_their_defaults() {
    let text = read("docs/directives.md");
    let (_, table) = text.split_once("## All directives").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let mut named = BTreeSet::new();
    let sections = sections();
    for row in table.lines().filter(|line| line.starts_with("| [")) {
        let cells: Vec<_> = row.split(" | ").collect();
        let names: Vec<_> =
            cells[0].split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
        let told: Vec<_> = cells[1].split(", ").map(str::trim).collect();
        for (index, name) in names.iter().enumerate() {
            let section = sections.get(*name).unwrap_or_else(|| panic!("{name} has no section"));
            // One word for all of them, or one for each.
            let told = if told.len() == names.len() { told[index] } else { told[0] };
            let default = section.default.as_deref().unwrap();
            let expected = if default == "—" { "" } else { default };
            let told = told.trim_matches('|').trim();
            // What is no plain value is said in fewer words in the table.
            if expected.starts_with('`')
                && expected.matches('`').count() == 2
                && expected.ends_with('`')
                || told.is_empty()
            {
                assert_eq!(told, expected, "{name}");
            }
            assert!(named.insert((*name).to_owned()), "{name} is there twice");
        }
    }
    assert_eq!(named, sections.into_keys().collect());
}

#[test]
fn every_default_is_the_one_of_the_table() {
    // That the settings have it without the directive is a test of `keystone-conf`.
    let table = table();
    for (name, section) in sections() {
        let default = section.default.unwrap();
        let value = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        let is_plain = value.is_some_and(|value| !value.contains('`'));
        assert_eq!(is_plain.then_some(default), table[&name].default, "{name}");
    }
}

#[test]
fn every_variable_is_described_and_none_else() {
    let source = read("src/variables.rs");
    let exist: BTreeSet<String> = source
        .split("(\"keystone_")
        .skip(1)
        .map(|rest| format!("$keystone_{}", rest.split('"').next().unwrap()))
        .collect();
    assert!(exist.len() > 20, "{exist:?}");
    let text = read("docs/directives.md");
    let (_, table) = text.split_once("\n## Variables\n").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let described: BTreeSet<String> = table
        .lines()
        .filter(|line| line.starts_with("| `$"))
        .flat_map(|line| {
            line.split(" | ").next().unwrap().split('`').filter(|it| it.starts_with('$'))
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(described, exist);
}

/// The words of `$keystone_auth_result` that a document has a row for, with their statuses: `—` for
/// those that no refused request has.
fn result_words(path: &str) -> BTreeMap<String, String> {
    let text = read(path);
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut words = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.split(" | ").collect();
        let is_status = cells
            .get(1)
            .is_some_and(|cell| matches!(*cell, "400" | "401" | "403" | "500" | "503" | "—"));
        if !is_status {
            continue;
        }
        for word in cells[0].split('`').filter(|word| !matches!(*word, "" | ", ")) {
            assert!(words.insert(word.to_owned(), cells[1].to_owned()).is_none(), "{path}: {word}");
        }
    }
    words
}

#[test]
fn every_result_is_described_and_every_refusal_has_its_remedy() {
    let mut told = result_words("docs/directives.md");
    let known: BTreeSet<_> = AuthResult::ALL.map(|it| it.as_str().to_owned()).into();
    assert_eq!(told.keys().cloned().collect::<BTreeSet<_>>(), known);
    assert_eq!(told.remove(AuthResult::Ok.as_str()).as_deref(), Some("—"));
    assert_eq!(result_words("docs/troubleshooting.md"), told);
}

/// The text of every Rust file below a directory.
fn sources(dir: &Path, found: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// The string literals of Rust code.
fn literals(code: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), code);
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (start, from) = (&rest[at..], &rest[at + 1..]);
        if start.starts_with("//") {
            rest = start.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(after) = ["'\"'", "'\\\"'"].iter().find_map(|it| start.strip_prefix(it))
        {
            rest = after;
        } else if rest[..at].ends_with("r#") {
            rest = from.split_once("\"#").map_or("", |(_, rest)| rest);
        } else if start.starts_with('"') {
            let mut escaped = false;
            let is_end = |c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            };
            let end = from.find(is_end).expect("a literal has an end");
            // A line that ends with a backslash goes on where the next one begins.
            let mut lines = from[..end].split("\\\n");
            let first = lines.next().unwrap_or_default().to_owned();
            let joined = lines.fold(first, |text, line| text + line.trim_start());
            found.push(joined.replace("\\\"", "\""));
            rest = &from[end + 1..];
        } else {
            rest = from;
        }
    }
    found
}

/// Whether a format string makes a text; what it has in braces can be anything.
fn makes(format: &str, text: &str) -> bool {
    let Some((fixed, rest)) = format.split_once('{') else { return format == text };
    let Some(text) = text.strip_prefix(fixed) else { return false };
    let Some((_, rest)) = rest.split_once('}') else { return false };
    rest.is_empty() || text.char_indices().any(|(at, _)| makes(rest, &text[at..]))
}

#[test]
fn the_log_lines_for_operators_are_those_of_the_sources() {
    let mut code = String::new();
    sources(&root().join("src"), &mut code);
    sources(&root().join("keystone-conf/src"), &mut code);
    sources(&root().join("keystone-token/src"), &mut code);
    sources(&root().join("keystone-gateway/src"), &mut code);
    let literals = literals(&code);
    // What the system and OpenSSL say.
    let foreign = ["Connection refused", "certificate has expired", "(os error 28)"];

    let text = read("docs/operations.md");
    let blocks = text.split("\n```").skip(1).step_by(2).flat_map(str::lines);
    let lines = blocks.filter(|line| line.starts_with('['));
    let ours: Vec<_> = lines.filter_map(|line| line.split_once("] keystone: ")).collect();
    assert!(ours.len() > 20, "{ours:?}");
    for (level, line) in ours {
        let whole = format!("keystone: {line}");
        // The one that says most, as some are nothing but a name and a reason.
        let fixed = |format: &str| {
            format.split('{').map(|part| part.rsplit('}').next().unwrap().len()).sum::<usize>()
        };
        let formats =
            literals.iter().filter(|it| it.starts_with("keystone: ") && makes(it, &whole));
        let format = formats.max_by_key(|format| fixed(format)).filter(|it| fixed(it) > 24);
        let format = format.unwrap_or_else(|| panic!("nobody logs {whole:?}"));
        let has_level = |at: &usize| {
            // The macro is the last one before the literal.
            let before = &code[..*at];
            let macros = ["error!(", "warn!(", "notice!(", "info!(", "debug!("];
            let last = macros.iter().max_by_key(|name| before.rfind(**name)).unwrap();
            last.trim_end_matches("!(") == &level[1..]
        };
        let beginning = format.split(['{', '\\', '"']).next().unwrap();
        let at = code.match_indices(beginning).map(|(at, _)| at);
        assert!(at.into_iter().any(|at| has_level(&at)), "{whole:?} is not logged at {level}]");
        // The reason at the end must be in the sources, too.
        let reasons = whole.split(", token: ").next().unwrap();
        let told = || {
            reasons.match_indices(": ").any(|(at, _)| {
                let reason = &reasons[at + 2..];
                literals.iter().any(|it| fixed(it) > 9 && makes(it, reason))
            })
        };
        let is_foreign = foreign.iter().any(|words| reasons.ends_with(words));
        assert!(!format.ends_with('}') || is_foreign || told(), "nobody says {reasons:?}");
    }
}

#[test]
fn operators_find_every_alert_and_only_metrics_that_exist() {
    let text = read("docs/operations.md");
    let words = |prefix: &'static str, text: &str| -> BTreeSet<String> {
        let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let found = text.match_indices(prefix).map(|(at, _)| &text[at..]);
        found.map(|rest| rest.split(is_end).next().unwrap().to_owned()).collect()
    };
    let alerts = read("docs/prometheus/alerts.yml");
    let alerts = alerts.lines().filter_map(|line| line.split_once("- alert: "));
    let alerts: BTreeSet<_> = alerts.map(|(_, name)| name.to_owned()).collect();
    let (_, rest) = text.split_once("| alert | section |").unwrap();
    let (table, _) = rest.split_once("\n\n").unwrap();
    assert_eq!(words("Keystone", &table.replace("Keystone ", "")), alerts);

    let monitoring = read("docs/monitoring.md");
    let directives = sections();
    for name in words("keystone_", &text) {
        let is_metric = monitoring.contains(&format!("`{name}`"));
        let is_other = ["keystone_auth_result", "keystone_status"].contains(&name.as_str());
        assert!(is_metric || is_other || directives.contains_key(&name), "{name}");
    }
}

/// The Markdown files of the project.
fn documents() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir()
                && !name.starts_with('.')
                && !matches!(name.as_str(), "target" | "build")
            {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found
}

/// The anchors that GitHub makes of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

/// The names of all functions in the Rust files below a directory.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let tests = text.split("#[test]\nfn ").skip(1);
            found.extend(tests.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
}

/// All tests of the programs below `tests`.
fn all_tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    functions(&root().join("tests"), &mut tests);
    tests
}

/// The rows of the table that follows a header, where each test that the last column names exists.
fn rows_with_tests<'a>(document: &str, table: &'a str, tests: &BTreeSet<String>) -> Vec<&'a str> {
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with("| ")).collect();
    for row in &rows {
        let (_, named) = row.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        for test in named.split(", ").map(|name| name.trim_matches('`')).filter(|it| *it != "—") {
            assert!(tests.contains(test), "{document} names a test {test}, and there is none");
        }
    }
    rows
}

#[test]
fn every_promise_names_tests_that_exist() {
    let tests = all_tests();
    let text = read("SECURITY.md");
    let (_, table) = text.split_once("| promise | tests |").unwrap();
    let promises = rows_with_tests("SECURITY.md", table, &tests);
    assert!(promises.len() > 10, "{promises:?}");
    // Each advisory that a test is named by is in the table.
    let advisories =
        tests.iter().filter(|name| name.starts_with("cve_") || name.starts_with("ossn_"));
    for test in advisories.filter(|name| *name != "cve_2015_7546_in_any_algorithm") {
        assert!(table.contains(test.as_str()), "{test} is not in SECURITY.md");
    }
}

#[test]
fn every_case_of_the_behaviour_names_tests_that_exist_and_every_such_test_a_case() {
    let tests = all_tests();
    let text = read("docs/behaviour.md");
    let mut cases = BTreeSet::new();
    for table in text.split("\n| case |").skip(1) {
        for row in rows_with_tests("docs/behaviour.md", table, &tests) {
            let case = row.split('|').nth(1).unwrap().trim().to_lowercase();
            assert!(case.is_empty() || cases.insert(case.clone()), "{case} is there twice");
        }
    }
    assert!(cases.len() > 150, "{cases:?}");
    // The names of tests begin with the cases that they show.
    let is_case = |word: &&str| {
        let rest = word.strip_prefix(|c: char| c.is_ascii_lowercase());
        rest.is_some_and(|it| it.len() == 2 && it.bytes().all(|byte| byte.is_ascii_digit()))
    };
    for test in &tests {
        for case in test.split('_').take_while(is_case) {
            assert!(cases.contains(case), "{test} is about {case}, which no document has");
        }
    }
}

#[test]
fn the_readme_is_short() {
    let words = read("README.md").split_whitespace().count();
    assert!(words < 800, "{words} words are more than a page and a half");
}

/// The samples and the documents, with their names.
fn with_samples() -> Vec<(String, String)> {
    let samples = fs::read_dir(root().join("nginx-conf")).unwrap();
    let samples = samples.map(|entry| entry.unwrap().path());
    let texts = documents().into_iter().chain(samples);
    texts.map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn logrotate_of_debian_rotates_every_log() {
    let mut checked = 0;
    for (name, text) in with_samples() {
        let is_end = |c: char| c.is_whitespace() || matches!(c, ';' | '`' | '"' | '\'' | ')');
        for rest in text.split("/var/log/nginx/").skip(1) {
            let log = rest.split(is_end).next().unwrap();
            assert!(log.ends_with(".log") && !log.contains('/'), "{name}: /var/log/nginx/{log}");
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}

#[test]
fn every_status_is_open_to_a_prometheus_and_closed_to_others() {
    let mut checked = 0;
    for (name, text) in with_samples() {
        for location in text.replace('\n', "\n ").split(" location ").skip(1) {
            let location = location.split('}').next().unwrap();
            if !location.contains("  keystone_status;") {
                continue;
            }
            for line in ["keystone_auth off;", "allow 127.0.0.1;", "deny all;"] {
                assert!(location.contains(line), "{name}: {line} is missing in {location}");
            }
            checked += 1;
        }
    }
    assert!(checked > 3, "{checked}");
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() >= 8, "{documents:?}");
    let mut checked = 0;
    for path in documents {
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            // What is elsewhere cannot be looked at from here.
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&target).unwrap());
                assert!(anchors.contains(anchor), "{}: {link}", path.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}
