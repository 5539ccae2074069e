//! Durations as attributes write them: `500ms`.

use std::time::Duration;

/// How a duration is written, for messages.
pub(crate) const FORM: &str = "a whole number and a unit, one of ns, us, ms, s, m: `\"500ms\"`";

/// The longest timeout that the wire can say, in milliseconds: 49 days.
const LONGEST: Duration = Duration::from_millis(u32::MAX as u64);

/// Reads a timeout: more than nothing, and no more than the wire can say.
///
/// # Errors
///
/// What to write instead.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse(text).ok_or_else(|| format!("a timeout is {FORM}"))?;
    if timeout.is_zero() {
        return Err("a call with no time always fails: write a longer timeout, or none for the client's".to_owned());
    }
    if timeout > LONGEST {
        return Err("a timeout is at most 49 days (4294967295ms)".to_owned());
    }
    Ok(timeout)
}

fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "ns" => Duration::from_nanos(number),
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        assert_eq!(parse_timeout("7ns"), Ok(Duration::from_nanos(7)));
        assert_eq!(parse_timeout("7us"), Ok(Duration::from_micros(7)));
        assert_eq!(parse_timeout("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_timeout("7s"), Ok(Duration::from_secs(7)));
        assert_eq!(parse_timeout("7m"), Ok(Duration::from_secs(420)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in ["", "5", "ms", "5 ms", "-5ms", "+5ms", "1.5s", "5h", "5MS", "5msx", "99999999999999999999ms"] {
            assert!(parse_timeout(bad).unwrap_err().contains("a whole number and a unit"), "{bad}");
        }
    }

    #[test]
    fn the_bounds_hold_at_them_and_one_over() {
        assert!(parse_timeout("0s").unwrap_err().contains("always fails"));
        assert!(parse_timeout("1ns").is_ok());
        assert!(parse_timeout("4294967295ms").is_ok());
        assert!(parse_timeout("4294967296ms").unwrap_err().contains("49 days"));
        assert!(parse_timeout("307445734561825861m").unwrap_err().contains("a whole number and a unit"));
    }
}
