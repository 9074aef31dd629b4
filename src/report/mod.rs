//! What people read afterwards: the sign-in log, the line of a session, the program's log.
//!
//! Deliberately absent: decisions, and the writing of the sign-in log to the store (the gate does that).

pub mod log;
pub mod session_line;
pub mod sign_in;

use crate::store::records::UnixTime;
use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// A time as RFC 3339 §5.6 writes it, in UTC: `2026-11-23T21:06:00Z`.
pub fn rfc3339(at: UnixTime) -> String {
    format!("{}Z", date_and_time(at.0))
}

/// Milliseconds since 1970 as RFC 3339 §5.6 writes them, in UTC: `2026-11-23T21:06:00.007Z`.
fn rfc3339_millis(since_1970: Duration) -> String {
    format!(
        "{}.{:03}Z",
        date_and_time(since_1970.as_secs()),
        since_1970.subsec_millis()
    )
}

fn date_and_time(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01.
///
/// Counts years from March, so that the leap day is the last of its year: 153 days are then always five months.
fn date(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_FROM_0000_03_01: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days_since_1970 + DAYS_FROM_0000_03_01;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day + 2) / 153;
    let day = day - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (400 * era + year + u64::from(month <= 2), month, day)
}

/// Makes control characters visible (`\n`, `\u{1b}`), so that text of a stranger can neither begin a line of its own nor
/// steer a terminal. Unicode's line and paragraph separators and its direction marks count as control characters.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if steers(char) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    Cow::Owned(out)
}

/// Whether a character does something to its reader's screen besides being read.
fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_471_560, "2026-11-23T22:06:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UnixTime(seconds)), text);
        }
        assert_eq!(
            rfc3339_millis(Duration::from_millis(7)),
            "1970-01-01T00:00:00.007Z"
        );
    }

    #[test]
    fn escapes_what_steers_a_reader_and_nothing_else() {
        for (text, escaped) in [
            ("plain, ä, 日本", "plain, ä, 日本"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{1b}[2J\u{0}\u{7f}\u{9b}", "\\u{1b}[2J\\u{0}\\u{7f}\\u{9b}"),
            ("\u{2028}\u{202e}\u{feff}", "\\u{2028}\\u{202e}\\u{feff}"),
        ] {
            assert_eq!(escape(text), escaped);
        }
    }
}
