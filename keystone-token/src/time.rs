//! Times as Keystone writes them.
//!
//! Keystone writes `2026-11-23T02:37:06Z` in v2 tokens and `2026-11-23T02:37:06.000000Z` in v3
//! ones. The Python middleware reads any of ISO 8601's date-times, and so does this module: basic
//! and extended form, a space for the `T`, fractions, offsets, and no zone at all, which means UTC.

/// Reads a date and time and returns seconds since 1970. A fraction of a second is dropped.
pub fn parse(text: &str) -> Result<i64, TimeError> {
    read(text).ok_or(TimeError)
}

/// The text is not a date and time of ISO 8601.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not an ISO 8601 date and time")]
pub struct TimeError;

fn read(text: &str) -> Option<i64> {
    let mut text = Cursor(text.as_bytes());
    let year = text.number(4, 4)?;
    let month = if text.skip(b'-') { text.number(1, 2)? } else { text.number(2, 2)? };
    let day = if text.skip(b'-') { text.number(1, 2)? } else { text.number(2, 2)? };
    if !text.skip(b'T') && !text.skip(b' ') {
        return None;
    }
    let hour = text.number(2, 2)?;
    text.skip(b':');
    let minute = text.number(2, 2)?;
    let mut second = 0;
    if text.skip(b':') || text.at_digit() {
        second = text.number(1, 2)?;
        if text.skip(b'.') || text.skip(b',') {
            text.fraction()?;
        }
    }
    let offset = text.zone()?;
    if !text.0.is_empty()
        || !(1..=12).contains(&month)
        || !(1..=days_in_month(year, month)).contains(&day)
        || year < 1
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    Some(days_since_1970(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset)
}

/// `YYYY-MM-DDTHH:MM:SSZ`. Seconds that lie outside the years 1 to 9999 are written as the
/// nearest that do not.
pub fn format_utc(seconds: i64) -> String {
    let seconds = seconds.clamp(FIRST, LAST);
    let (year, month, day) = date(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // `format!` takes as long as reading the rest of a token's content.
    let mut text = String::with_capacity(FORM.len());
    let mut write = |before: &str, number: i64| {
        text.push_str(before);
        text.push(digit(number / 10));
        text.push(digit(number));
    };
    write("", year / 100);
    write("", year);
    for (before, number) in [("-", month), ("-", day), ("T", hour), (":", minute), (":", second)] {
        write(before, number);
    }
    text.push('Z');
    text
}

/// The last digit of a number.
fn digit(number: i64) -> char {
    char::from(b'0' + (number % 10) as u8)
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// A number of `min` to `max` digits, as many as there are.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let digits = self.0.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < min {
            return None;
        }
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        Some(number.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    }

    fn skip(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn at_digit(&self) -> bool {
        self.0.first().is_some_and(u8::is_ascii_digit)
    }

    fn fraction(&mut self) -> Option<()> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.0 = &self.0[digits..];
        (digits > 0).then_some(())
    }

    /// The offset from UTC in seconds, positive to the east.
    fn zone(&mut self) -> Option<i64> {
        if self.0.is_empty() || self.skip(b'Z') {
            return Some(0);
        }
        let sign = if self.skip(b'-') {
            -1
        } else if self.skip(b'+') {
            1
        } else {
            return None;
        };
        let hours = self.number(2, 2)?;
        self.skip(b':');
        let minutes = if self.at_digit() { self.number(2, 2)? } else { 0 };
        let offset = hours * 3600 + minutes * 60;
        (offset < DAY).then_some(sign * offset)
    }
}

/// Days of the Gregorian calendar, by counting years from March, so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - MARCH_OF_YEAR_0_TO_1970
}

/// The reverse: year, month and day.
fn date(days_since_1970: i64) -> (i64, i64, i64) {
    let days = days_since_1970 + MARCH_OF_YEAR_0_TO_1970;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (carry, month) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    (era * 400 + year_of_era + carry, month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const DAY: i64 = 86_400;
const FORM: &str = "YYYY-MM-DDTHH:MM:SSZ";
/// Days from 1 March of year 0 to 1 January 1970.
const MARCH_OF_YEAR_0_TO_1970: i64 = 719_468;
/// 0001-01-01T00:00:00Z
const FIRST: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z
const LAST: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keystone_s_own_forms_are_read() {
        assert_eq!(parse("2026-11-23T02:37:06Z"), Ok(1_795_401_426));
        assert_eq!(parse("2026-11-23T02:37:06.000000Z"), Ok(1_795_401_426));
        assert_eq!(parse("2026-11-23T02:37:06+00:00"), Ok(1_795_401_426));
        assert_eq!(parse("2020-01-01T00:00:10.000123Z"), Ok(1_577_836_810));
        assert_eq!(format_utc(1_795_401_426), "2026-11-23T02:37:06Z");
    }

    #[test]
    fn so_are_the_others_of_iso_8601() {
        for text in [
            "2026-11-23 02:37:06",
            "2026-11-23T02:37:06,5",
            "2026-11-23T02:37:06.999999999999999999999999",
            "20261123T023706Z",
            "2026-11-23T04:07:06+01:30",
            "2026-11-23T04:07:06+0130",
            "2026-11-22T22:37:06-04",
            "2026-11-23T02:37:6Z",
        ] {
            assert_eq!(parse(text), Ok(1_795_401_426), "{text}");
        }
        assert_eq!(parse("2026-1-3T02:37Z"), parse("2026-01-03T02:37:00Z"));
    }

    #[test]
    fn what_is_no_time_is_an_error() {
        for text in [
            "",
            "tomorrow",
            "1795401426",
            "2026",
            "2026-11-23",
            "2026-11-23T",
            "2026-11-23T02",
            "2026-11-23T02:",
            "2026-11-23T02:37:",
            "2026-11-23T02:37:06.",
            "2026-11-23T02:37:06z",
            "2026-11-23t02:37:06Z",
            "2026-11-23T02:37:06Z ",
            " 2026-11-23T02:37:06Z",
            "2026-11-23T02:37:06ZZ",
            "2026-11-23T02:37:06+",
            "2026-11-23T02:37:06+1",
            "2026-11-23T02:37:06+24:00",
            "2026-11-23T02:37:06+00:0",
            "2026-00-23T02:37:06Z",
            "2026-13-23T02:37:06Z",
            "2026-11-00T02:37:06Z",
            "2026-11-31T02:37:06Z",
            "2026-02-29T02:37:06Z",
            "2100-02-29T02:37:06Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T02:60:06Z",
            "2026-11-23T02:37:60Z",
            "0000-11-23T02:37:06Z",
            "+2026-11-23T02:37:06Z",
            "-2026-11-23T02:37:06Z",
            "2026-11-23T02:37:06\u{661}Z",
        ] {
            assert_eq!(parse(text), Err(TimeError), "{text}");
        }
    }

    #[test]
    fn each_day_of_four_centuries_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1900, 1, 1);
        let first = days_since_1970(year, month, day);
        for days in first..first + 146_097 {
            assert_eq!(days_since_1970(year, month, day), days);
            assert_eq!(date(days), (year, month, day));
            day += 1;
            if day > days_in_month(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
        assert_eq!((year, month, day), (2300, 1, 1));
    }

    #[test]
    fn what_no_calendar_has_is_written_as_the_nearest() {
        assert_eq!(format_utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(format_utc(-1), "1969-12-31T23:59:59Z");
        assert_eq!(format_utc(i64::MIN), "0001-01-01T00:00:00Z");
        assert_eq!(format_utc(i64::MAX), "9999-12-31T23:59:59Z");
    }
}
