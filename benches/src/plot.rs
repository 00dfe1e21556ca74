//! Plots as SVG.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Failure;

/// Lines over a logarithmic axis, or bars where there is one value for each name.
pub struct Plot {
    title: &'static str,
    below: &'static str,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Plot {
    /// An empty one. What the values are is said in the title, and what is below them in `below`.
    pub fn new(title: &'static str, below: &'static str) -> Self {
        Self { title, below, lines: Vec::new() }
    }

    /// Adds a line.
    pub fn line(&mut self, name: impl Into<String>, points: Vec<(f64, f64)>) {
        self.lines.push((name.into(), points));
    }

    /// Adds a bar.
    pub fn bar(&mut self, name: impl Into<String>, value: f64) {
        self.line(name, vec![(1.0, value)]);
    }

    /// Writes it to a file.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        let is_bars = self.lines.iter().all(|(_, points)| points.len() < 2);
        Ok(fs::write(file, if is_bars { self.bars() } else { self.curves() })?)
    }

    fn top(&self) -> f64 {
        let values = self.lines.iter().flat_map(|(_, points)| points).map(|(_, value)| *value);
        let most = values.fold(f64::MIN_POSITIVE, f64::max);
        let unit = 10_f64.powf(most.log10().floor());
        // Not much above the largest value.
        [1.0, 1.5, 2.0, 3.0, 5.0, 10.0]
            .map(|step| step * unit)
            .into_iter()
            .find(|top| *top >= most)
            .unwrap_or(most)
    }

    fn curves(&self) -> String {
        let all = || self.lines.iter().flat_map(|(_, points)| points).map(|(at, _)| place(*at));
        let (first, last) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
        let top = self.top();
        let x =
            |at: f64| LEFT + (place(at) - first) / (last - first).max(0.1) * (WIDTH - LEFT - 150.0);
        let y = |value: f64| BOTTOM - value / top * (BOTTOM - TOP);
        let mut svg = self.head();
        for part in 0..=4 {
            let value = top * f64::from(part) / 4.0;
            rule(&mut svg, y(value), value);
        }
        let mut marks: Vec<f64> = self.lines.iter().flat_map(|(_, it)| it).map(|it| it.0).collect();
        marks.sort_by(f64::total_cmp);
        marks.dedup();
        for at in marks {
            text(&mut svg, x(at), BOTTOM + 18.0, "middle", &short(at));
        }
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let path: Vec<_> = points
                .iter()
                .map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)))
                .collect();
            let path = path.join(" ");
            _ = writeln!(
                svg,
                "<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>"
            );
            for (at, value) in points {
                let (x, y) = (x(*at), y(*value));
                _ = writeln!(svg, "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{colour}'/>");
            }
            if let Some((at, value)) = points.last() {
                text(&mut svg, x(*at) + 8.0, y(*value) + 4.0, "start", name);
            }
        }
        svg + "</svg>\n"
    }

    fn bars(&self) -> String {
        let (top, mut svg) = (self.top(), self.head());
        let step = (BOTTOM - TOP) / self.lines.len().max(1) as f64;
        for (at, (name, points)) in self.lines.iter().enumerate() {
            let value = points.first().map_or(0.0, |(_, value)| *value);
            let (y, width) = (TOP + step * at as f64, value / top * (WIDTH - NAMES - 80.0));
            let height = step * 0.6;
            _ = writeln!(
                svg,
                "<rect x='{NAMES}' y='{y:.1}' width='{width:.1}' height='{height:.1}' fill='{}'/>",
                COLOURS[0]
            );
            text(&mut svg, NAMES - 8.0, y + height / 2.0 + 4.0, "end", name);
            text(&mut svg, NAMES + width + 6.0, y + height / 2.0 + 4.0, "start", &short(value));
        }
        svg + "</svg>\n"
    }

    fn head(&self) -> String {
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' \
             font-family='sans-serif' font-size='13'>\n<rect width='100%' height='100%' fill='#fff'/>\n"
        );
        text(&mut svg, 16.0, 24.0, "start", self.title);
        text(&mut svg, WIDTH / 2.0, HEIGHT - 10.0, "middle", self.below);
        svg
    }
}

/// Where a number of things is on the axis; none has a place too.
fn place(at: f64) -> f64 {
    if at < 1.0 {
        2.0
    } else {
        at.log10()
    }
}

fn rule(svg: &mut String, y: f64, value: f64) {
    let end = WIDTH - 140.0;
    _ = writeln!(svg, "<path d='M{LEFT} {y:.1}H{end}' stroke='#ccc'/>");
    text(svg, LEFT - 8.0, y + 4.0, "end", &short(value));
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    _ = writeln!(svg, "<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{text}</text>");
}

/// As short as an axis has it.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

const COLOURS: [&str; 4] = ["#1f5fa8", "#c4561b", "#2d8a4e", "#7a4ba0"];
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 340.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 280.0;
const LEFT: f64 = 64.0;
/// What the names of bars take.
const NAMES: f64 = 300.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_where_they_belong() {
        let mut plot = Plot::new("µs", "tokens");
        plot.line("a < b", vec![(1.0, 0.0), (100.0, 2.0)]);
        let svg = plot.curves();
        assert!(svg.contains("points='64.0,280.0 570.0,48.0'"), "{svg}");
        assert!(svg.contains(">a &lt; b</text>") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn the_largest_bar_is_the_longest() {
        let mut plot = Plot::new("requests/s", "");
        plot.bar("one", 50_000.0);
        plot.bar("other", 5_000.0);
        let svg = plot.bars();
        assert!(svg.contains("width='340.0'") && svg.contains("width='34.0'"), "{svg}");
        assert!(svg.contains(">50k</text>") && svg.contains(">5000</text>"));
    }
}
