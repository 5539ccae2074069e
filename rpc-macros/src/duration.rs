//! Durations in attributes, such as `500ms`.

use std::time::Duration;

/// The syntax of a duration, for errors.
const SYNTAX: &str = "an integer and a unit, one of ns, us, ms, s, m, such as `\"500ms\"`";

/// The longest timeout that the wire format can express: 2^32 - 1 milliseconds, which is 49 days.
const LONGEST: Duration = Duration::from_millis(u32::MAX as u64);

/// Parses a timeout, which must be positive and at most 49 days.
///
/// # Errors
///
/// A message for the user.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse(text).ok_or_else(|| format!("a timeout must be {SYNTAX}"))?;
    if timeout.is_zero() {
        return Err(
            "a timeout of zero always fails: use a longer timeout, or remove it to use the timeout of the client"
                .to_owned(),
        );
    }
    if timeout > LONGEST {
        return Err("a timeout must be at most 49 days (4294967295ms)".to_owned());
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
    fn parse_timeout_accepts_every_unit() {
        assert_eq!(parse_timeout("7ns"), Ok(Duration::from_nanos(7)));
        assert_eq!(parse_timeout("7us"), Ok(Duration::from_micros(7)));
        assert_eq!(parse_timeout("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_timeout("7s"), Ok(Duration::from_secs(7)));
        assert_eq!(parse_timeout("7m"), Ok(Duration::from_secs(420)));
    }

    #[test]
    fn parse_timeout_rejects_invalid_syntax() {
        for bad in ["", "5", "ms", "5 ms", "-5ms", "+5ms", "1.5s", "5h", "5MS", "5msx", "99999999999999999999ms"] {
            assert!(parse_timeout(bad).unwrap_err().contains("an integer and a unit"), "{bad}");
        }
    }

    #[test]
    fn parse_timeout_enforces_both_limits() {
        assert!(parse_timeout("0s").unwrap_err().contains("always fails"));
        assert!(parse_timeout("1ns").is_ok());
        assert!(parse_timeout("4294967295ms").is_ok());
        assert!(parse_timeout("4294967296ms").unwrap_err().contains("49 days"));
        assert!(parse_timeout("307445734561825861m").unwrap_err().contains("an integer and a unit"));
    }
}
