//! What `keystone_status` tells, as a scraper reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use crate::keystone::{python, source};
use crate::prometheus::promtool;
use crate::{During, Error, Result};

/// Samples in Prometheus' text format.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

impl Metrics {
    /// Reads them, and is strict about it: help and type come before the samples of a family, and
    /// no series comes twice.
    pub fn read(text: &str) -> Result<Self> {
        let mut metrics = Self::default();
        let (mut families, mut family, mut kind) = (BTreeSet::new(), String::new(), String::new());
        for line in text.lines() {
            let wrong = |what: &str| Error::Http(format!("{what}: {line:?}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
                if help.is_empty() || !families.insert(name.to_owned()) {
                    return Err(wrong("no help, or a family twice"));
                }
                (family, kind) = (name.to_owned(), String::new());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let typed = rest.split_once(' ').filter(|(name, _)| *name == family);
                kind = typed.ok_or_else(|| wrong("a type without help"))?.1.to_owned();
            } else {
                let (name, labels, value) = sample(line).ok_or_else(|| wrong("no sample"))?;
                let suffixes: &[&str] = match kind.as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    "counter" | "gauge" => &[""],
                    _ => return Err(wrong("no type")),
                };
                if !suffixes.iter().any(|suffix| format!("{family}{suffix}") == name) {
                    return Err(wrong("a sample of another family"));
                }
                if metrics.samples.insert((name, labels), value).is_some() {
                    return Err(wrong("a series twice"));
                }
            }
        }
        Ok(metrics)
    }

    /// The sum of all samples of a name that have these labels; 0 without any.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|(_, value)| value).sum()
    }

    /// The samples of a name that have these labels.
    pub fn matching<'m>(
        &'m self,
        name: &'m str,
        labels: &'m [(&'m str, &'m str)],
    ) -> impl Iterator<Item = (&'m Labels, f64)> {
        let has = |known: &Labels| {
            labels.iter().all(|(name, value)| known.get(*name).is_some_and(|known| known == value))
        };
        let samples = self.samples.iter();
        samples
            .filter(move |((known, labels), _)| known == name && has(labels))
            .map(|((_, labels), value)| (labels, *value))
    }

    /// The names of all samples.
    pub fn names(&self) -> BTreeSet<&str> {
        self.samples.keys().map(|(name, _)| name.as_str()).collect()
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

/// Parses `name{label="value",...} value`.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Labels::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inside.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value).is_none().then_some(())?;
            match after.strip_prefix(',') {
                Some(after) => inside = after,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ')?;
    Some((name.to_owned(), labels, value.parse().ok()?))
}

/// A value up to its closing quote, and what is behind that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other @ ('\\' | '"') => other,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}

/// What `promtool check metrics` and Prometheus' own Python client find wrong; gives the number of
/// samples.
pub fn lint(text: &str) -> Result<usize> {
    promtool(&["check", "metrics"], text)?;
    let mut command = Command::new(python()?);
    command.arg(source("metrics.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().during("starting metrics.py")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).during("writing to metrics.py")?;
    }
    let output = child.wait_with_output().during("running metrics.py")?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let number = said(&output.stdout).trim().parse().ok().filter(|_| output.status.success());
    number.ok_or_else(|| Error::Python(format!("metrics.py: {}", said(&output.stderr))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: &str = "# HELP a_total What.\n# TYPE a_total counter\n";

    #[test]
    fn samples_are_read_with_their_labels() {
        let text =
            format!("{FAMILY}a_total{{b=\"x\\\"\\\\\\n,}}\",c=\"\"}} 2\na_total{{b=\"y\"}} 3\n");
        let metrics = Metrics::read(&text).unwrap();
        assert_eq!(metrics.sum("a_total", &[]), 5.0);
        assert_eq!(metrics.sum("a_total", &[("b", "x\"\\\n,}"), ("c", "")]), 2.0);
        assert_eq!(metrics.sum("a_total", &[("b", "z")]), 0.0);
    }

    #[test]
    fn what_is_not_in_order_is_refused() {
        for lines in [
            "a_total 1\na_total 2\n",
            "b_total 1\n",
            "a_total{b=\"x} 1\n",
            "a_total{b=\"x\",b=\"y\"} 1\n",
            "a_total{b=\"\\x\"} 1\n",
            "a_total one\n",
            "# HELP a_total Again.\n",
        ] {
            assert!(Metrics::read(&format!("{FAMILY}{lines}")).is_err(), "{lines}");
        }
        assert!(Metrics::read("a_total 1\n").is_err());
        assert!(Metrics::read("# HELP a_total What.\na_total 1\n").is_err());
    }
}
