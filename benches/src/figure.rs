//! Figures, their targets, and the files that they are written to.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{json, Value};

use crate::report::{median, quantile, thousands};
use crate::Failure;

/// Something that was measured several times.
#[derive(Clone, Debug)]
pub struct Figure {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
    target: Option<Target>,
}

/// What a figure should be. Nothing fails because of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Less than this.
    Below(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(target) => value >= target,
            Self::AtMost(target) => value <= target,
            Self::Below(target) => value < target,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(target) => format!("at least {}", shown(target, unit)),
            Self::AtMost(target) => format!("at most {}", shown(target, unit)),
            Self::Below(target) => format!("below {}", shown(target, unit)),
        }
    }
}

impl Figure {
    /// A figure without a target.
    pub fn new(name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self { name: name.into(), unit, values, target: None }
    }

    /// Sets what it should be.
    pub fn target(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// The median.
    pub fn median(&self) -> f64 {
        median(self.values.iter().copied())
    }

    fn quartile(&self, share: f64) -> f64 {
        quantile(share, self.values.iter().copied())
    }

    fn row(&self) -> String {
        let (low, high) = (self.quartile(0.25), self.quartile(0.75));
        let target = self.target.map_or_else(String::new, |target| target.text(self.unit));
        let met = match self.target.map(|target| target.is_met(self.median())) {
            None => "",
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        format!(
            "| {} | {} | {}..{} | {target} | {met} |",
            self.name,
            shown(self.median(), self.unit),
            number(low),
            number(high),
        )
    }

    fn json(&self) -> Value {
        let (bound, target) = match self.target {
            None => (None, None),
            Some(Target::AtLeast(target)) => (Some("at least"), Some(target)),
            Some(Target::AtMost(target)) => (Some("at most"), Some(target)),
            Some(Target::Below(target)) => (Some("below"), Some(target)),
        };
        json!({
            "name": self.name,
            "unit": self.unit,
            "median": self.median(),
            "quartiles": [self.quartile(0.25), self.quartile(0.75)],
            "times_measured": self.values.len(),
            "bound": bound,
            "target": target,
            "met": self.target.map(|target| target.is_met(self.median())),
        })
    }
}

/// All figures, in sections.
#[derive(Debug, Default)]
pub struct Figures {
    about: Vec<String>,
    sections: Vec<(String, Vec<Figure>)>,
}

impl Figures {
    /// What was measured, and on what.
    pub fn new(about: Vec<String>) -> Self {
        Self { about, sections: Vec::new() }
    }

    /// Adds a section.
    pub fn add(&mut self, title: &str, figures: Vec<Figure>) {
        self.sections.push((title.to_owned(), figures));
    }

    /// The tables in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = "# Results of `make bench`\n\n".to_owned();
        self.about.iter().for_each(|line| _ = writeln!(text, "- {line}"));
        for (title, figures) in &self.sections {
            _ = writeln!(text, "\n## {title}\n\n{HEAD}");
            figures.iter().for_each(|figure| _ = writeln!(text, "{}", figure.row()));
        }
        text
    }

    /// Writes `results.md` and `results.json`.
    pub fn write(&self, dir: &Path) -> Result<(), Failure> {
        let section = |(title, figures): &(String, Vec<Figure>)| json!({"title": title, "figures": figures.iter().map(Figure::json).collect::<Vec<_>>()});
        let sections: Vec<Value> = self.sections.iter().map(section).collect();
        let document = json!({"about": self.about, "sections": sections});
        fs::write(dir.join("results.json"), serde_json::to_string_pretty(&document)? + "\n")?;
        Ok(fs::write(dir.join("results.md"), self.markdown())?)
    }
}

fn shown(value: f64, unit: &str) -> String {
    match unit {
        "" => number(value),
        _ => format!("{} {unit}", number(value)),
    }
}

/// With as many digits as are worth it.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => thousands(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

const HEAD: &str = "\
| | median | middle half | target | met |
|---|---|---|---|---|";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_whether_its_target_is_met() {
        let figure = |target| Figure::new("a hit", "µs", vec![3.0, 1.0, 2.0]).target(target);
        let row = figure(Target::AtMost(2.0)).row();
        assert_eq!(row, "| a hit | 2.00 µs | 1.50..2.50 | at most 2.00 µs | yes |");
        for (target, is_met) in [
            (Target::AtMost(1.9), false),
            (Target::AtLeast(2.0), true),
            (Target::AtLeast(2.1), false),
            (Target::Below(2.0), false),
        ] {
            assert_eq!(figure(target).json()["met"], is_met, "{target:?}");
        }
    }

    #[test]
    fn the_files_hold_each_figure() {
        let dir = keystone_testbed::temp::TempDir::new("figures").unwrap();
        let mut figures = Figures::new(vec!["two processors".into()]);
        figures.add("Cached", vec![Figure::new("PKI", "", vec![1.05])]);
        figures.write(dir.path()).unwrap();
        let text = fs::read_to_string(dir.join("results.md")).unwrap();
        assert!(text.contains("- two processors") && text.contains("| PKI | 1.05 |"), "{text}");
        let text = fs::read_to_string(dir.join("results.json")).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["sections"][0]["figures"][0]["median"], 1.05);
    }
}
