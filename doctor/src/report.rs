//! What was found: the same for eyes and for programs.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It could not be made; the detail says why.
    Skip,
    /// All is well.
    Ok,
    /// It works, and should not stay so.
    Warn,
    /// It does not work.
    Fail,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }

    fn color(self) -> &'static str {
        match self {
            Self::Skip => "36",
            Self::Ok => "32",
            Self::Warn => "33",
            Self::Fail => "1;31",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its name, which stays the same from release to release: `signing_dir.mode`.
    pub id: &'static str,
    /// The same for people.
    pub title: &'static str,
    /// How it ended.
    pub status: Status,
    /// What it is about, where that is not plain: a file or a URI.
    pub target: Option<String>,
    /// What was found.
    pub detail: String,
    /// What that means.
    pub meaning: Option<String>,
    /// The command, or the directive, that mends it or tells more.
    pub fix: Option<String>,
}

impl Check {
    /// A check that found all well.
    pub fn ok(id: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(id, title, Status::Ok, detail)
    }

    /// A check that found something to worry about.
    pub fn warn(id: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(id, title, Status::Warn, detail)
    }

    /// A check that found something broken.
    pub fn fail(id: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(id, title, Status::Fail, detail)
    }

    /// A check that could not be made.
    pub fn skip(id: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(id, title, Status::Skip, detail)
    }

    fn new(
        id: &'static str,
        title: &'static str,
        status: Status,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        Self { id, title, status, target: None, detail, meaning: None, fix: None }
    }

    /// With what it is about.
    pub fn about(self, target: impl Into<String>) -> Self {
        Self { target: Some(target.into()), ..self }
    }

    /// With what it means.
    pub fn meaning(self, text: impl Into<String>) -> Self {
        Self { meaning: Some(text.into()), ..self }
    }

    /// With what mends it.
    pub fn fix(self, command: impl Into<String>) -> Self {
        Self { fix: Some(command.into()), ..self }
    }
}

/// Checks that belong together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Section {
    /// What they are about: the configuration, or an identity service by its first URI.
    pub name: String,
    /// The servers that use it.
    pub users: Vec<String>,
    /// What the module would do with the token, for the command `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What was found, in the order in which it was looked at.
    pub checks: Vec<Check>,
}

/// What the module would do with a token.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Verdict {
    /// `accept`, `refuse` or `unknown`.
    pub decision: Decision,
    /// The word of `$keystone_auth_result`; `None` if it cannot be told.
    pub result: Option<&'static str>,
    /// Why, in a sentence.
    pub reason: String,
}

/// Whether a token would pass.  In the order in which several identity services are summed up.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It would.
    Accept,
    /// It cannot be told with what is at hand.
    Unknown,
    /// It would not.
    Refuse,
}

/// All that a run has found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of this form: counts up when a member changes its meaning.
    pub version: u32,
    /// `check` or `token`.
    pub command: &'static str,
    /// The configuration that was read; `None` for options of the command line.
    pub configuration: Option<String>,
    /// The worst of all checks, or `ok`.
    pub status: Status,
    /// What a token says of itself, for the command `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<crate::token::Facts>,
    /// The checks.
    pub sections: Vec<Section>,
}

impl Report {
    /// Sums up sections.
    pub fn new(
        command: &'static str,
        configuration: Option<String>,
        sections: Vec<Section>,
    ) -> Self {
        let checks = sections.iter().flat_map(|section| &section.checks);
        let status = checks.map(|check| check.status).max().unwrap_or(Status::Ok).max(Status::Ok);
        Self { version: 1, command, configuration, status, token: None, sections }
    }

    /// The report for a program.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The report for eyes, with colours if the terminal has them.
    pub fn human(&self, color: bool) -> String {
        let mut out = String::new();
        let paint = |code: &str, text: &str| match color {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        };
        if let Some(facts) = &self.token {
            let _ = writeln!(out, "{}\n{}", paint("1", "token"), Plain(&facts.human()));
        }
        for section in &self.sections {
            let _ = writeln!(out, "{}", paint("1", &Plain(&section.name).to_string()));
            for user in &section.users {
                let _ = writeln!(out, "        used by {}", Plain(user));
            }
            let mut heading = "";
            for check in &section.checks {
                if let Some(target) = &check.target {
                    // A file of the directory that is being looked at has its name in the title.
                    let is_inside = !heading.is_empty()
                        && target.strip_prefix(heading).is_some_and(|rest| rest.starts_with('/'));
                    if target != heading && !is_inside {
                        heading = target;
                        let _ = writeln!(out, "  {}", Plain(heading));
                    }
                }
                let word = paint(check.status.color(), &format!("{:<5}", check.status.word()));
                let detail = Plain(&check.detail);
                let _ = writeln!(out, "  {word} {:<22} {detail}", check.title);
                if let Some(meaning) = &check.meaning {
                    let _ = writeln!(out, "        {}", Plain(meaning));
                }
                if let Some(fix) = &check.fix {
                    let _ = writeln!(out, "        {} {}", paint("1", "try:"), Plain(fix));
                }
            }
            if let Some(verdict) = &section.verdict {
                let (code, text) = match verdict.decision {
                    Decision::Accept => ("32", "the module would accept it"),
                    Decision::Refuse => ("1;31", "the module would refuse it"),
                    Decision::Unknown => ("33", "it cannot be told what the module would do"),
                };
                let word = verdict.result.map(|word| format!(" ({word})")).unwrap_or_default();
                let text = paint(code, &format!("{text}{word}"));
                let _ = writeln!(out, "  {text}: {}", Plain(&verdict.reason));
            }
            out.push('\n');
        }
        let count = |status| {
            let checks = self.sections.iter().flat_map(|section| &section.checks);
            checks.filter(|check| check.status == status).count()
        };
        let _ = writeln!(
            out,
            "{} ok, {} to look at, {} failed, {} skipped",
            count(Status::Ok),
            count(Status::Warn),
            count(Status::Fail),
            count(Status::Skip)
        );
        out
    }
}

/// A text whose control characters cannot reach a terminal: names and reasons come from files and
/// from the network.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\n' => f.write_char(c),
            c if c.is_control() => f.write_char('\u{fffd}'),
            c => f.write_char(c),
        })
    }
}

/// A word as a shell takes it.
pub fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A number of seconds as people say it.
pub fn span(seconds: i64) -> String {
    let seconds = seconds.unsigned_abs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quote("/var/lib/nginx"), "/var/lib/nginx");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's; rm"), r"'it'\''s; rm'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn nothing_from_outside_steers_a_terminal() {
        let check = Check::ok("a.b", "title", "evil \x1b[2J").fix("\x07");
        let section =
            Section { name: "\x1b]0;x".into(), checks: vec![check], ..Section::default() };
        let report = Report::new("check", None, vec![section]);
        assert!(!report.human(false).contains(['\x1b', '\x07']));
    }

    #[test]
    fn the_worst_check_is_the_status() {
        let section = |checks| vec![Section { checks, ..Section::default() }];
        let of = |checks| Report::new("check", None, section(checks)).status;
        assert_eq!(of(vec![]), Status::Ok);
        assert_eq!(of(vec![Check::skip("a", "a", "")]), Status::Ok);
        let checks =
            vec![Check::warn("a", "a", ""), Check::fail("b", "b", ""), Check::ok("c", "c", "")];
        assert_eq!(of(checks), Status::Fail);
    }
}
