//! Which form a reader wants.

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON, for people and scripts.
    Json,
    /// Text in the exposition format of Prometheus.
    Prometheus,
}

impl Form {
    /// The form that an `Accept` header (RFC 9110, section 12.5.1) prefers; JSON where it does not
    /// care, or wants neither. A scraper names OpenMetrics before the older text format: it is
    /// given the latter, which it takes as well.
    pub fn accepted(accept: &str) -> Self {
        let text = weight(accept, ("text", "plain"));
        let open_metrics = weight(accept, ("application", "openmetrics-text"));
        match text.max(open_metrics) > weight(accept, ("application", "json")) {
            true => Self::Prometheus,
            false => Self::Json,
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// How much a media type is wanted, in thousandths: as the range says that fits it most closely.
fn weight(accept: &str, (kind, subtype): (&str, &str)) -> u16 {
    let ranges = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let (range_kind, range_subtype) = parts.next()?.split_once('/')?;
        let is = |range: &str, name: &str| range.eq_ignore_ascii_case(name);
        let closeness = match (range_kind, range_subtype) {
            (a, b) if is(a, kind) && is(b, subtype) => 2,
            (a, "*") if is(a, kind) => 1,
            ("*", "*") => 0,
            _ => return None,
        };
        let weight = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('='));
        Some((closeness, weight.map_or(1_000, thousandths)))
    });
    ranges.max().map_or(0, |(_, weight)| weight)
}

fn thousandths(weight: &str) -> u16 {
    match weight.parse::<f32>() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => (weight * 1_000.0) as u16,
        _ => 0,
    }
}
