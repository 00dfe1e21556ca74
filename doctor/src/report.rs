//! The report of a run, for people and as JSON for programs.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// The result of a check.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It could not be made; the detail says why.
    Skip,
    /// Nothing to do.
    Ok,
    /// It works, and should not stay so.
    Warn,
    /// The module does not work as it is configured.
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

/// The result of one check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its name, which stays the same from release to release: `signing_dir.mode`.
    pub id: &'static str,
    /// The name of the check in the report for people.
    pub title: &'static str,
    pub status: Status,
    /// What it is about, where that is not plain: a file or a URI.
    pub target: Option<String>,
    /// The finding, in one sentence.
    pub detail: String,
    /// The consequence for the gateway, if it is not obvious.
    pub meaning: Option<String>,
    /// The command or the directive that repairs it or shows more.
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

    /// Adds the consequence.
    pub fn meaning(self, text: impl Into<String>) -> Self {
        Self { meaning: Some(text.into()), ..self }
    }

    /// Adds the command that repairs it.
    pub fn fix(self, command: impl Into<String>) -> Self {
        Self { fix: Some(command.into()), ..self }
    }
}

/// The checks below one heading.
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
    /// The word of `$keystone_auth_result`; `None` if it is not known.
    pub result: Option<&'static str>,
    /// The reason, in one sentence.
    pub reason: String,
}

/// Whether a token would pass. In the order in which several identity services are summed up.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The module accepts the token.
    Accept,
    /// The checks that could be made do not decide it.
    Unknown,
    /// The module refuses the token.
    Refuse,
}

/// What the report shows of a token before the verdict.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Subject {
    members: serde_json::Value,
    #[serde(skip)]
    human: String,
}

impl Subject {
    /// The members for programs, and the text for people.
    pub fn new(members: &impl Serialize, human: String) -> Self {
        Self { members: serde_json::to_value(members).unwrap_or_default(), human }
    }
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
    pub token: Option<Subject>,
    /// In the order in which they are printed.
    pub sections: Vec<Section>,
}

impl Report {
    /// Counts the results of the sections.
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

    /// The report for people, with colours if the terminal has them.
    pub fn human(&self, color: bool) -> String {
        let mut page = Page { text: String::new(), color };
        if let Some(facts) = &self.token {
            page.line(format_args!("{}", page.paint("1", "token")));
            page.line(format_args!("{}", facts.human));
        }
        for section in &self.sections {
            page.section(section);
        }
        let count = |status| {
            let checks = self.sections.iter().flat_map(|section| &section.checks);
            checks.filter(|check| check.status == status).count()
        };
        let [ok, warn, fail, skip] =
            [Status::Ok, Status::Warn, Status::Fail, Status::Skip].map(count);
        page.line(format_args!("{ok} ok, {warn} to look at, {fail} failed, {skip} skipped"));
        page.text
    }
}

/// A report for people that is being written.
struct Page {
    text: String,
    color: bool,
}

impl Page {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.color {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn section(&mut self, section: &Section) {
        let name = Plain(&section.name).to_string();
        self.line(format_args!("{}", self.paint("1", &name)));
        for user in &section.users {
            self.line(format_args!("        used by {}", Plain(user)));
        }
        let mut heading = "";
        for check in &section.checks {
            if let Some(target) = &check.target {
                // A file of the directory that is being looked at has its name in the title.
                let is_inside = !heading.is_empty()
                    && target.strip_prefix(heading).is_some_and(|rest| rest.starts_with('/'));
                if target != heading && !is_inside {
                    heading = target;
                    self.line(format_args!("  {}", Plain(heading)));
                }
            }
            self.check(check);
        }
        if let Some(verdict) = &section.verdict {
            self.verdict(verdict);
        }
        self.text.push('\n');
    }

    fn check(&mut self, check: &Check) {
        let word = self.paint(check.status.color(), &format!("{:<5}", check.status.word()));
        self.line(format_args!("  {word} {:<22} {}", check.title, Plain(&check.detail)));
        if let Some(meaning) = &check.meaning {
            self.line(format_args!("        {}", Plain(meaning)));
        }
        if let Some(fix) = &check.fix {
            self.line(format_args!("        {} {}", self.paint("1", "try:"), Plain(fix)));
        }
    }

    fn verdict(&mut self, verdict: &Verdict) {
        let (code, text) = match verdict.decision {
            Decision::Accept => ("32", "the module would accept it"),
            Decision::Refuse => ("1;31", "the module would refuse it"),
            Decision::Unknown => ("33", "it cannot be told what the module would do"),
        };
        let word = verdict.result.map(|word| format!(" ({word})")).unwrap_or_default();
        let text = self.paint(code, &format!("{text}{word}"));
        self.line(format_args!("  {text}: {}", Plain(&verdict.reason)));
    }
}

/// A text in which nothing can steer a terminal or make lines of its own: names and reasons come
/// from files, from the network, and from tokens that anybody may have forged.
pub struct Plain<'a>(pub &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            c if c.is_control() || is_layout(c) => f.write_char('\u{fffd}'),
            c => f.write_char(c),
        })
    }
}

/// Whether it is a separator of lines or paragraphs, or changes the direction of what follows.
fn is_layout(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
        let check = Check::ok("a.b", "title", "evil \x1b[2J\n  ok").fix("\x07\u{85}\u{202e}");
        let check = check.meaning("\r\u{2028}").about("a\nb");
        let section =
            Section { name: "\x1b]0;x\n".into(), checks: vec![check], ..Section::default() };
        let report = Report::new("check", None, vec![section]).human(false);
        let is_odd = |c: char| c != '\n' && c.is_control() || "\u{2028}\u{202e}".contains(c);
        assert!(!report.contains(is_odd), "{report:?}");
        // Name, target, check, meaning, command, an empty one, and the sum.
        assert_eq!(report.lines().count(), 7, "{report}");
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
