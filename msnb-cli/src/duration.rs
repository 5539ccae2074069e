//! Durations on the command line: `500ms`, `5s`, `2m`, or a number of seconds.

use std::time::Duration;

/// Parses a duration that is longer than 0 and at most a day.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("the unit `{unit}` is unknown: expected ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number and a unit, such as 500ms or 5s".to_owned())?;
    let parsed = Duration::try_from_secs_f64(number * seconds).ok();
    parsed
        .filter(|time| (Duration::from_millis(1)..=LONGEST).contains(time))
        .ok_or_else(|| "expected 1ms to 24h".to_owned())
}

const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_limits() {
        let ms = |text| parse(text).map(|time| time.as_millis());
        assert_eq!([ms("1ms"), ms("2.5"), ms("5s"), ms("2m")], [Ok(1), Ok(2500), Ok(5000), Ok(120_000)]);
        assert_eq!(ms("24h"), Ok(86_400_000));
        for invalid in ["", "0", "0.5ms", "24.1h", "5d", "s", "-1s", "1e3", "1.2.3s"] {
            assert!(parse(invalid).is_err(), "{invalid}");
        }
    }
}
