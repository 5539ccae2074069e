//! [`Access`]: the callers that may call each method.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rpc_core::{Code, Error, Identity, Reloadable};

/// The callers that may call a method, or the methods of a service that have no rule of their own.
pub(crate) struct AccessRule {
    /// `service:version/method` or `service:version`.
    pub(crate) target: String,
    /// Names and patterns.
    pub(crate) names: Vec<String>,
}

/// The access rules of a server. The default permits every call.
#[derive(Default)]
pub(crate) struct Access(Option<Restricted>);

struct Restricted {
    rules: ArcSwap<Rules>,
    file: Option<Arc<Reloadable<Rules>>>,
}

/// The permitted callers of each target; `None` permits every caller.
struct Rules(Vec<Option<Arc<Names>>>);

/// Names, and patterns in which `*` matches any characters.
#[derive(Default)]
struct Names {
    exact: HashSet<String>,
    patterns: Vec<String>,
}

/// The routes of a server, each with its service, in the order of their numbers.
pub(crate) struct Targets(pub(crate) Vec<(String, String)>);

impl Access {
    /// Applies rules, and those of a file. The names of several rules for the same target add up.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a target that this server does not serve, and for a file that cannot be read.
    pub(crate) fn new(targets: Targets, rules: Vec<AccessRule>, file: Option<PathBuf>) -> Result<Self, Error> {
        let invalid = |message: String| Error::not_executed(Code::InvalidArgument, message);
        for rule in &rules {
            targets.check(&rule.target).map_err(|problem| invalid(format!("access rule for {problem}")))?;
        }
        let Some(path) = file else {
            let rules = (!rules.is_empty()).then(|| ArcSwap::from_pointee(targets.resolve(&rules)));
            return Ok(Self(rules.map(|rules| Restricted { rules, file: None })));
        };
        let build = {
            let (path, restricted) = (path.clone(), Mutex::new(HashSet::new()));
            move |contents: &[Vec<u8>]| {
                let content = contents.first().map_or(&[][..], Vec::as_slice);
                let of_file = parse(&path, content, &targets).map_err(invalid)?;
                let mut restricted = restricted.lock().unwrap_or_else(PoisonError::into_inner);
                *restricted = keep_restricted(&path, &restricted, &of_file).map_err(invalid)?;
                Ok(targets.resolve(rules.iter().chain(&of_file)))
            }
        };
        let file = Reloadable::load(vec![path], Box::new(build))?;
        Ok(Self(Some(Restricted { rules: ArcSwap::new(file.current()), file: Some(file) })))
    }

    /// Returns whether `caller` may call the target with this number.
    pub(crate) fn permits(&self, number: usize, caller: &Identity) -> bool {
        let Some(restricted) = &self.0 else { return true };
        match restricted.rules.load().0.get(number) {
            Some(Some(names)) => caller.names().any(|name| names.contain(name)),
            Some(None) => true,
            None => false,
        }
    }

    /// Applies the changes of the file, forever.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub(crate) async fn follow(&self) {
        match &self.0 {
            Some(Restricted { rules, file: Some(file) }) => file.follow(|changed| rules.store(changed)).await,
            _ => std::future::pending().await,
        }
    }
}

impl Targets {
    fn check(&self, target: &str) -> Result<(), String> {
        if self.0.iter().any(|(route, service)| target == route || target == service) {
            return Ok(());
        }
        Err(format!("{target}: this server has no such service or method"))
    }

    fn resolve<'a>(&self, rules: impl IntoIterator<Item = &'a AccessRule>) -> Rules {
        let mut names = HashMap::<&str, Names>::new();
        for rule in rules {
            names.entry(&rule.target).or_default().add(&rule.names);
        }
        let names: HashMap<_, _> = names.into_iter().map(|(target, names)| (target, Arc::new(names))).collect();
        let of = |(route, service): &(String, String)| {
            names.get(route.as_str()).or_else(|| names.get(service.as_str())).map(Arc::clone)
        };
        Rules(self.0.iter().map(of).collect())
    }
}

impl Names {
    fn add(&mut self, names: &[String]) {
        let (patterns, exact): (Vec<_>, Vec<_>) = names.iter().cloned().partition(|name| name.contains('*'));
        self.exact.extend(exact);
        self.patterns.extend(patterns);
    }

    fn contain(&self, name: &str) -> bool {
        self.exact.contains(name) || self.patterns.iter().any(|pattern| matches(pattern, name))
    }
}

/// Returns whether `pattern` matches the whole name.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // The first occurrence of each part leaves the most characters for the others.
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// Parses the rules of a file. The format is in the docs of `ServerBuilder::allow_file`.
fn parse(path: &Path, content: &[u8], targets: &Targets) -> Result<Vec<AccessRule>, String> {
    let file = path.display();
    let text = std::str::from_utf8(content).map_err(|error| {
        let valid = String::from_utf8_lossy(&content[..error.valid_up_to()]);
        let (line, column) =
            (valid.matches('\n').count() + 1, valid.chars().rev().take_while(|c| *c != '\n').count() + 1);
        format!("{file}:{line}:{column}: not UTF-8")
    })?;
    let mut rules = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let mut words = words(content).take_while(|(_, word)| !word.starts_with('#'));
        let Some((column, target)) = words.next() else { continue };
        let at = |column: usize, problem: &str| format!("{file}:{line}:{column}: {problem}");
        targets.check(target).map_err(|problem| at(column, &problem))?;
        let name = |(column, name): (usize, &str)| match name.strip_suffix(',') {
            Some(_) => Err(at(column + name.chars().count() - 1, "names are separated by spaces, not by commas")),
            None => Ok(name.to_owned()),
        };
        rules.push(AccessRule { target: target.to_owned(), names: words.map(name).collect::<Result<_, _>>()? });
    }
    // Another program may still be writing the file. Without rules every call is permitted, and a cut pattern matches more.
    if rules.is_empty() {
        return Err(format!("{file}: the file contains no access rule"));
    }
    if !text.ends_with('\n') {
        return Err(format!("{file}: the last line has no line end, so the file may be incomplete"));
    }
    Ok(rules)
}

/// Returns the targets of `rules`, unless they lack one of `restricted`, the targets of the previous content.
///
/// A target without a rule permits every caller, so a file that is only partly written could open it.
fn keep_restricted(path: &Path, restricted: &HashSet<String>, rules: &[AccessRule]) -> Result<HashSet<String>, String> {
    let targets: HashSet<_> = rules.iter().map(|rule| rule.target.clone()).collect();
    match restricted.difference(&targets).min() {
        None => Ok(targets),
        Some(target) => {
            let file = path.display();
            Err(format!("{file}: {target} had a rule and has none now; to permit every caller, write `{target} *`"))
        }
    }
}

/// Returns the words of a line, each with its first column, counted in characters from 1.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split_whitespace().map(move |word| {
        let before = word.as_ptr() as usize - line.as_ptr() as usize;
        (line[..before].chars().count() + 1, word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Targets {
        let of = |route: &str, service: &str| (route.to_owned(), service.to_owned());
        Targets(vec![of("a.B:1/one", "a.B:1"), of("a.B:1/two", "a.B:1"), of("c.D:2/one", "c.D:2")])
    }

    #[test]
    fn pattern_matches_whole_names() {
        for (pattern, accepted, rejected) in [
            ("ann", &["ann"][..], &["", "an", "anna", "Ann"][..]),
            ("team-*", &["team-", "team-a", "team-a-b"], &["team", "ateam-a", ""]),
            ("*.shop", &[".shop", "a.shop", "a.b.shop", "*.shop"], &["shop", "a.shop.x"]),
            ("a*b*c", &["abc", "aXbXc", "abbc", "abcbc", "abcc"], &["ac", "acb", "abcX", "ab"]),
            ("a*a", &["aa", "aXa"], &["a"]),
            ("*", &["", "x"], &[]),
            ("a**b", &["ab", "aXb"], &["a", "b"]),
            ("spiffe://shop/*", &["spiffe://shop/a/b"], &["spiffe://shop", "spiffe://shop2/a"]),
        ] {
            for name in accepted {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in rejected {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn file_contains_lines_of_target_and_names() {
        let text = "# callers\n\n  a.B:1  ann team-* # all teams\r\na.B:1/two\n\tc.D:2/one bob#1\n";
        let rules = parse(Path::new("rules"), text.as_bytes(), &targets()).unwrap();
        let rules: Vec<_> = rules.iter().map(|rule| (rule.target.as_str(), rule.names.join(" "))).collect();
        let expected = [("a.B:1", "ann team-*"), ("a.B:1/two", ""), ("c.D:2/one", "bob#1")];
        assert_eq!(rules, expected.map(|(target, names)| (target, names.to_owned())));
    }

    #[test]
    fn file_errors_name_line_and_column() {
        for (content, expected) in [
            (&b"a.B:1 ann\n  a.B:2 ann"[..], "rules:2:3: a.B:2: this server has no such service or method"),
            (b"a.B:1 ann bob, eve", "rules:1:14: names are separated by spaces, not by commas"),
            ("a.B:1 ä, b".as_bytes(), "rules:1:8: names are separated by spaces, not by commas"),
            (b"a.B:1 ann\na.B:1 \xc3\xa4\xff", "rules:2:8: not UTF-8"),
            (b"a.B:1 ann\na.B:1/two *", "rules: the last line has no line end, so the file may be incomplete"),
            (b"# nothing\n", "rules: the file contains no access rule"),
            (b"", "rules: the file contains no access rule"),
        ] {
            let error = parse(Path::new("rules"), content, &targets()).err();
            assert_eq!(error.as_deref(), Some(expected), "{}", String::from_utf8_lossy(content));
        }
    }

    #[test]
    fn incomplete_file_opens_no_target() {
        let rules = |text: &str| parse(Path::new("rules"), text.as_bytes(), &targets()).unwrap();
        let keep = |previous: &str, next: &str| {
            let restricted = keep_restricted(Path::new("rules"), &HashSet::new(), &rules(previous)).unwrap();
            keep_restricted(Path::new("rules"), &restricted, &rules(next)).err()
        };
        let problem = "rules: c.D:2 had a rule and has none now; to permit every caller, write `c.D:2 *`";
        assert_eq!(keep("a.B:1 ann\nc.D:2 bob\n", "a.B:1 ann\n").as_deref(), Some(problem));
        assert_eq!(keep("a.B:1 ann\nc.D:2 bob\n", "c.D:2 *\na.B:1\na.B:1/one ann\n"), None);
    }
}
