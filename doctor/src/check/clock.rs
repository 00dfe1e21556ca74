//! Keystone's clock, by the date of its answers.

use crate::net::Answer;
use crate::report::{span, Check};
use crate::system;

/// Whether a token's end is the same moment here and there.
pub fn check(answer: &Answer) -> Check {
    let (id, title) = ("keystone.clock", "clock");
    let date = answer.headers.get("date").and_then(|date| date.to_str().ok());
    let Some(theirs) = date.and_then(http_date) else {
        return Check::skip(id, title, "Keystone's answers have no Date");
    };
    let ahead = system::now() - theirs;
    match ahead.abs() {
        0..=1 => Check::ok(id, title, "the same as Keystone's"),
        2..=60 => Check::ok(id, title, format!("{} from Keystone's", span(ahead))),
        _ => {
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            let detail = format!("{} {side} Keystone's", span(ahead));
            let check = match ahead.abs() {
                0..=LARGE_DIFFERENCE => Check::warn(id, title, detail),
                _ => Check::fail(id, title, detail),
            };
            check
                .meaning(
                    "a token's expiry is judged by this machine's clock: tokens end too early, \
                          or count for too long, by that much",
                )
                .fix("chronyc tracking (or timedatectl), here and on Keystone's machine")
        }
    }
}

/// Seconds by which clocks may differ without tokens of a short life being over when they come.
const LARGE_DIFFERENCE: i64 = 300;

/// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since 1970.
fn http_date(text: &str) -> Option<i64> {
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    keystone_token::time::parse(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::http_date;

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for text in ["", "Sun, 06 Nov", "1994-11-06T08:49:37Z", "Sun, 06 Foo 1994 08:49:37 GMT"] {
            assert_eq!(http_date(text), None, "{text}");
        }
    }
}
