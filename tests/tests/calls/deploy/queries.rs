//! [`Selector`]: the metrics and labels that queries of Prometheus name; [`Samples`]: those that a program exports.

use std::collections::{BTreeMap, BTreeSet};

use rpc_core::Code;

/// A metric in a query, with the matchers of its labels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selector {
    pub(super) metric: String,
    /// The label and the value or expression of each matcher.
    pub(super) matchers: Vec<(String, String)>,
}

/// Returns the metrics of msnb that a query names.
pub(super) fn selectors(query: &str) -> Vec<Selector> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find("msnb_") {
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (metric, after) = rest.split_at(end);
        let matchers =
            after.strip_prefix('{').map_or_else(Vec::new, |braces| matchers(braces.split('}').next().unwrap()));
        found.push(Selector { metric: metric.to_owned(), matchers });
        rest = after;
    }
    found
}

/// Parses `label="value", label=~"expression"`, whose values contain no commas.
fn matchers(text: &str) -> Vec<(String, String)> {
    let matcher = |matcher: &str| {
        let (label, value) = matcher.split_once('"').unwrap();
        let label = label.trim_end_matches(['=', '~', '!']).trim();
        (label.to_owned(), value.trim_end_matches('"').to_owned())
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(matcher).collect()
}

/// Returns the labels by which a query groups.
pub(super) fn grouped(query: &str) -> BTreeSet<String> {
    let lists = query.split("by (").skip(1).map(|rest| rest.split(')').next().unwrap());
    lists.flat_map(|list| list.split(',').map(|label| label.trim().to_owned())).collect()
}

/// The names of exported samples, with the values of each label.
#[derive(Debug, Default)]
pub(super) struct Samples(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Samples {
    /// Adds the samples of a page in the text format.
    pub(super) fn add(&mut self, page: &str) {
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (sample, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let known = self.0.entry(name.to_owned()).or_default();
            for (label, value) in matchers(labels.trim_end_matches('}')) {
                known.entry(label).or_default().insert(value);
            }
        }
    }

    /// Returns whether the page had a sample with this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns the faults of a query: metrics, labels and values that no program exports.
    pub(super) fn faults(&self, query: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut labels: BTreeSet<String> = TARGET_LABELS.map(str::to_owned).into();
        for Selector { metric, matchers } in selectors(query) {
            let Some(known) = self.0.get(&metric) else {
                faults.push(format!("{metric} is not exported: {query}"));
                continue;
            };
            labels.extend(known.keys().cloned());
            for (label, value) in matchers {
                if TARGET_LABELS.contains(&&*label) {
                    continue;
                }
                let values = known.get(&label);
                // Not every code has occurred in the exporting program.
                let is_known =
                    |value: &str| values.is_some_and(|all| all.contains(value) || label == "code" && is_code(value));
                let unknown = value.split('|').filter(|value| !is_known(value));
                faults.extend(unknown.map(|value| format!("{metric} has no label {label}=\"{value}\": {query}")));
            }
        }
        let missing = grouped(query).into_iter().filter(|label| !labels.contains(label));
        faults.extend(missing.map(|label| format!("no metric has the label {label}: {query}")));
        faults
    }
}

fn is_code(name: &str) -> bool {
    (0..=u8::MAX).any(|number| Code::from_u8(number).to_string() == name)
}

/// The labels that Prometheus adds to all samples.
const TARGET_LABELS: [&str; 4] = ["instance", "job", "namespace", "protocol"];

#[test]
fn queries_name_metrics_labels_and_values() {
    let query = "sum by (a, le) (rate(msnb_x_total{a=~\"b|c\", job=~\"$job\"}[5m])) / msnb_y";
    let matcher = |label: &str, value: &str| (label.to_owned(), value.to_owned());
    let selector = |metric: &str, matchers| Selector { metric: metric.to_owned(), matchers };
    let first = selector("msnb_x_total", vec![matcher("a", "b|c"), matcher("job", "$job")]);
    assert_eq!(selectors(query), [first, selector("msnb_y", Vec::new())]);
    assert_eq!(grouped(query), BTreeSet::from(["a".to_owned(), "le".to_owned()]));
    let mut samples = Samples::default();
    samples.add("# HELP msnb_x x\nmsnb_x_total{a=\"b\",le=\"1\"} 1\nmsnb_y 2\n# EOF\n");
    assert_eq!(samples.faults(query), [format!("msnb_x_total has no label a=\"c\": {query}")]);
    assert_eq!(samples.faults("msnb_z"), ["msnb_z is not exported: msnb_z"]);
    assert_eq!(samples.faults("sum by (q) (msnb_y)"), ["no metric has the label q: sum by (q) (msnb_y)"]);
}
