//! Times as people write them: RFC 3339 in UTC, whole or shortened.

use crate::report::rfc3339;
use crate::store::records::UnixTime;

/// Reads `2026-11-23`, `2026-11-23T21:06:00Z` (with `T` or a space, seconds and `Z` may be missing).
pub fn parse(text: &str) -> Option<UnixTime> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, clock) = match text.split_once(['T', ' ']) {
        Some((date, clock)) => (date, clock),
        None => (text, "00:00"),
    };
    let [year, month, day] = numbers(date, '-')?[..] else {
        return None;
    };
    let (hour, minute, second) = match numbers(clock, ':')?[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let sound = (1970..=9999).contains(&year) && hour < 24 && minute < 60 && second < 60;
    let days = sound.then(|| days_from_civil(year, month, day))?;
    // February 30th comes back as March 1st or 2nd.
    let time = UnixTime(days * DAY + hour * 3600 + minute * 60 + second);
    rfc3339(time)
        .starts_with(&format!("{year:04}-{month:02}-{day:02}T"))
        .then_some(time)
}

fn numbers(text: &str, separator: char) -> Option<Vec<u64>> {
    text.split(separator)
        .map(|part| {
            part.parse()
                .ok()
                .filter(|_| part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit()))
        })
        .collect()
}

const DAY: u64 = 86_400;

/// Days since 1970 of a day in the Gregorian calendar; any `month` and `day` give some number. Years are counted from
/// March, so that the leap day comes last, and in eras of 400 years, which all have 146 097 days.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day.max(1) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_logs_show() {
        let check = |seconds: u64, text: &str| {
            assert_eq!(rfc3339(UnixTime(seconds)), text);
            assert_eq!(parse(text), Some(UnixTime(seconds)), "{text}");
        };
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_709_251_199, "2024-02-29T23:59:59Z");
        check(1_709_251_200, "2024-03-01T00:00:00Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
        check(1_795_467_960, "2026-11-23T21:06:00Z");
    }

    #[test]
    fn reads_shorter_spellings_and_nothing_else() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(parse(text).map(rfc3339).as_deref(), expected, "{text}");
        };
        check("2026-11-23", Some("2026-11-23T00:00:00Z"));
        check("2026-11-23 21:06", Some("2026-11-23T21:06:00Z"));
        check("2026-02-30", None);
        check("2026-13-01", None);
        check("2026-00-10", None);
        check("2026-11-00", None);
        check("2026-11-23T24:00", None);
        check("+026-11-23", None);
        check("1969-12-31", None);
        check("yesterday", None);
    }
}
