//! [`Route`]: a service and one of its methods on the command line.

use std::{fmt, str::FromStr};

use rpc_core::ServiceId;

/// `SERVICE` or `SERVICE/METHOD`, such as `demo.Greeter:1.0/hello`.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) service: ServiceId,
    pub(crate) method: Option<String>,
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, method) = match text.split_once('/') {
            Some((_, "")) => return Err("the method behind `/` is empty".to_owned()),
            Some((service, method)) => (service, Some(method.to_owned())),
            None => (text, None),
        };
        Ok(Self { service: parse_service(service)?, method })
    }
}

/// Parses the name and version of a service.
pub(crate) fn parse_service(text: &str) -> Result<ServiceId, String> {
    text.parse().map_err(|_| {
        let fix = "`msnb ls --address ADDRESS` prints the services of a server";
        format!("expected a name and a version, such as demo.Greeter:1.0; {fix}")
    })
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.method {
            Some(method) => write!(f, "{}/{method}", self.service),
            None => self.service.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_a_service_and_maybe_a_method() {
        let parsed = |text: &str| text.parse::<Route>().map(|route| (route.service.to_string(), route.method));
        assert_eq!(parsed("a.B:1.0"), Ok(("a.B:1.0".to_owned(), None)));
        assert_eq!(parsed("a.B:1.0/c"), Ok(("a.B:1.0".to_owned(), Some("c".to_owned()))));
        for invalid in ["", "a.B", "a.B/c", "a.B:1.0/", "/c", "a b:1"] {
            assert!(parsed(invalid).is_err(), "{invalid}");
        }
    }
}
