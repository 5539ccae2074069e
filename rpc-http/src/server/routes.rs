//! [`Routes`]: the method that a verb and a path name.

use std::{collections::BTreeMap, sync::Arc};

use hyper::Method as Verb;
use percent_encoding::percent_decode_str;
use rpc_core::{
    Code, Error, MethodInfo, Service, ServiceId,
    descriptor::{Field, Type},
};

/// The methods of a server by their paths.
#[derive(Default)]
pub(super) struct Routes {
    /// The methods by `/service:version/method` and `/service/method`.
    by_name: BTreeMap<String, Arc<Route>>,
    templates: Vec<Template>,
}

/// A method that a path names.
#[derive(Debug)]
pub(super) struct Route {
    /// `service:version/method`.
    pub(super) route: String,
    pub(super) method: MethodInfo,
    /// The parameters; `None` if the service has no description.
    pub(super) parameters: Option<Vec<Field>>,
}

/// A verb and a path with parameters.
struct Template {
    verb: Verb,
    segments: Vec<Segment>,
    route: Arc<Route>,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
}

/// The names and the values of the parameters in a path.
pub(super) type PathValues = Vec<(String, String)>;

/// The result of a search.
pub(super) enum Found {
    /// A method, with the values of the parameters in the path.
    Route(Arc<Route>, PathValues),
    /// The path has other verbs.
    OtherVerbs(String),
    /// The path names a service or a method that the server does not have.
    Unknown(String),
    Nothing,
}

impl Routes {
    /// Creates the routes of the services of a server.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if two methods have the same verb and path.
    pub(super) fn new(services: &[(ServiceId, Arc<dyn Service>)]) -> Result<Self, Error> {
        let mut routes = Self::default();
        let mut newest: BTreeMap<&str, &ServiceId> = BTreeMap::new();
        for (id, _) in services {
            let known = newest.entry(id.name()).or_insert(id);
            if is_newer(id.version(), known.version()) {
                *known = id;
            }
        }
        for (id, service) in services {
            let is_newest = newest.get(id.name()) == Some(&id);
            for method in service.methods() {
                let contract = service.contract().and_then(|contract| contract.method(method.name()));
                let route = Arc::new(Route {
                    route: format!("{id}/{}", method.name()),
                    method: method.clone(),
                    parameters: contract.map(|contract| contract.parameters.clone()),
                });
                routes.by_name.insert(format!("/{}", route.route), Arc::clone(&route));
                if is_newest {
                    routes.by_name.insert(format!("/{}/{}", id.name(), method.name()), Arc::clone(&route));
                }
                // A service under its major version has the same methods, whose paths exist already.
                if id == service.id()
                    && let Some(http) = method.http_path()
                {
                    routes.add_template(http, route)?;
                }
            }
        }
        Ok(routes)
    }

    fn add_template(&mut self, http: &str, route: Arc<Route>) -> Result<(), Error> {
        let invalid = || Error::not_executed(Code::InvalidArgument, format!("`{http}` is not a verb and a path"));
        let (verb, path) = http.split_once(" /").ok_or_else(invalid)?;
        let verb = Verb::from_bytes(verb.as_bytes()).map_err(|_| invalid())?;
        let segment = |text: &str| match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => Segment::Parameter(name.to_owned()),
            None => Segment::Literal(text.to_owned()),
        };
        let segments: Vec<_> = path.split('/').map(segment).collect();
        if let Some(other) =
            self.templates.iter().find(|other| other.verb == verb && is_same(&other.segments, &segments))
        {
            let message = format!("{} and {} have the path {http} in HTTP", other.route.route, route.route);
            return Err(Error::not_executed(Code::AlreadyExists, message));
        }
        self.templates.push(Template { verb, segments, route });
        Ok(())
    }

    /// Finds the method of a request. The error describes a path that cannot be decoded.
    pub(super) fn find(&self, verb: &Verb, path: &str) -> Result<Found, &'static str> {
        let decode = |segment: &str| percent_decode_str(segment).decode_utf8().map(|text| text.into_owned());
        let segments: Result<Vec<_>, _> = path.strip_prefix('/').unwrap_or(path).split('/').map(decode).collect();
        let segments = segments.map_err(|_| "the path is not UTF-8")?;
        let mut verbs: Vec<&str> = Vec::new();
        let mut best: Option<(usize, &Template, PathValues)> = None;
        for template in &self.templates {
            let Some(values) = template.values(&segments) else { continue };
            if template.verb != *verb {
                verbs.push(template.verb.as_str());
            } else if best.as_ref().is_none_or(|(fewest, ..)| values.len() < *fewest) {
                best = Some((values.len(), template, values));
            }
        }
        if let Some((_, template, values)) = best {
            return Ok(Found::Route(Arc::clone(&template.route), values));
        }
        let name = format!("/{}", segments.join("/"));
        if let Some(route) = self.by_name.get(&name) {
            if *verb == Verb::POST {
                return Ok(Found::Route(Arc::clone(route), Vec::new()));
            }
            verbs.push("POST");
        }
        if !verbs.is_empty() {
            verbs.sort_unstable();
            verbs.dedup();
            return Ok(Found::OtherVerbs(verbs.join(", ")));
        }
        let is_route = *verb == Verb::POST
            && segments.len() == 2
            && segments[0].parse::<ServiceId>().is_ok()
            && (1..=MAX_METHOD).contains(&segments[1].len());
        Ok(if is_route { Found::Unknown(name[1..].to_owned()) } else { Found::Nothing })
    }
}

impl Route {
    /// Returns the type of a parameter; `None` if the method has no such parameter.
    ///
    /// The types of a service without a description are not known.
    pub(super) fn parameter(&self, name: &str) -> Option<&Type> {
        let parameters = self.parameters.as_deref()?;
        parameters.iter().find(|parameter| parameter.name == name).map(|parameter| &parameter.ty)
    }
}

impl Template {
    /// Returns the values of the parameters; `None` if the path does not match.
    fn values(&self, path: &[String]) -> Option<PathValues> {
        if self.segments.len() != path.len() {
            return None;
        }
        let mut values = Vec::new();
        for (segment, text) in self.segments.iter().zip(path) {
            match segment {
                Segment::Literal(literal) if literal == text => {}
                Segment::Parameter(name) if !text.is_empty() => values.push((name.clone(), text.clone())),
                _ => return None,
            }
        }
        Some(values)
    }
}

/// Returns whether two templates match the same paths.
fn is_same(one: &[Segment], other: &[Segment]) -> bool {
    let equal = |(one, other): (&Segment, &Segment)| match (one, other) {
        (Segment::Parameter(_), Segment::Parameter(_)) => true,
        (one, other) => one == other,
    };
    one.len() == other.len() && one.iter().zip(other).all(equal)
}

/// Returns whether a version is newer than another one: by its numbers, otherwise by its text.
fn is_newer(one: &str, other: &str) -> bool {
    let numbers = |version: &str| version.split('.').map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>();
    match (numbers(one), numbers(other)) {
        (Some(one), Some(other)) => one > other,
        (one, other) => (one.is_some(), one) > (other.is_some(), other),
    }
}

/// The longest name of a method that is passed to the server, in bytes.
const MAX_METHOD: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_have_greater_numbers() {
        assert!(is_newer("1.10", "1.9") && is_newer("2", "1.9") && is_newer("1.0.1", "1.0"));
        assert!(!is_newer("1.0", "1.0") && !is_newer("beta", "1.0") && is_newer("1.0", "beta"));
    }

    #[test]
    fn literal_segments_precede_parameters() {
        let route = |name: &str| {
            let method = MethodInfo::new(ServiceId::new("a", "1").unwrap(), name);
            Arc::new(Route { route: format!("a:1/{name}"), method, parameters: None })
        };
        let mut routes = Routes::default();
        routes.add_template("GET /orders/{id}", route("get")).unwrap();
        routes.add_template("GET /orders/open", route("open")).unwrap();
        routes.add_template("PUT /orders/{id}", route("put")).unwrap();
        assert_eq!(routes.add_template("GET /orders/{other}", route("x")).unwrap_err().code(), Code::AlreadyExists);
        let found = |verb: Verb, path: &str| match routes.find(&verb, path) {
            Ok(Found::Route(route, values)) => format!("{} {values:?}", route.method.name()),
            Ok(Found::OtherVerbs(verbs)) => verbs,
            Ok(Found::Unknown(route)) => format!("unknown {route}"),
            Ok(Found::Nothing) => "nothing".to_owned(),
            Err(fault) => fault.to_owned(),
        };
        assert_eq!(found(Verb::GET, "/orders/open"), "open []");
        assert_eq!(found(Verb::GET, "/orders/a%2Fb%20c"), r#"get [("id", "a/b c")]"#);
        assert_eq!(found(Verb::PUT, "/orders/open"), r#"put [("id", "open")]"#);
        assert_eq!(found(Verb::DELETE, "/orders/7"), "GET, PUT");
        for path in ["/", "", "/orders", "/orders/", "/orders/7/8", "/orders//"] {
            assert_eq!(found(Verb::GET, path), "nothing", "{path}");
        }
        assert_eq!(found(Verb::GET, "/orders/%ff"), "the path is not UTF-8");
        assert_eq!(found(Verb::POST, "/b:1/m"), "unknown b:1/m");
        assert_eq!(found(Verb::GET, "/b:1/m"), "nothing");
    }
}
