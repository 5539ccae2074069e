//! [`RulesSource`]: the rules of a client, and the sources from which it reads them.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use rpc_core::{Error, MethodInfo, RuleSource, ServiceId, contained};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{document::Rules, file::RulesFile, rule::Rule};
use crate::discovery::rule_feed::RuleFeed;

/// The rules of a client: those of the program or its file, and the documents of services.
#[derive(Default)]
pub(crate) struct RulesSource {
    /// Whether calls must look for a rule. Most clients have no rules, and their calls read only this.
    is_set: AtomicBool,
    rules: ArcSwapOption<RuleSet>,
    /// The texts of the services' documents that were applied last, valid or not. Locked by each change of `rules`.
    texts: Mutex<HashMap<Arc<str>, Arc<str>>>,
    file: Option<RulesFile>,
    documents: Option<Arc<dyn RuleSource>>,
}

/// All rules at one moment.
#[derive(Debug, Default, Clone)]
struct RuleSet {
    /// The rules in the documents of services, by the name of the service.
    of_services: HashMap<Arc<str>, Arc<Rules>>,
    /// The rules of the program or its file.
    common: Option<Arc<Rules>>,
}

impl RulesSource {
    /// Creates the rules of a client.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the file cannot be read or has a mistake.
    pub(crate) fn new(
        rules: Option<Rules>,
        path: Option<PathBuf>,
        documents: Option<Arc<dyn RuleSource>>,
    ) -> Result<Arc<Self>, Error> {
        let (rules, file) = match path {
            None => (rules, None),
            Some(path) => {
                let (file, rules) = RulesFile::open(path)?;
                (Some(rules), Some(file))
            }
        };
        let source = Self { file, documents, ..Self::default() };
        source.set(rules);
        Ok(Arc::new(source))
    }

    /// Returns the documents of services, if the client has a source of them.
    pub(crate) fn feed(self: &Arc<Self>) -> Option<RuleFeed> {
        let (source, rules) = (Arc::clone(self.documents.as_ref()?), Arc::clone(self));
        Some(RuleFeed { source, apply: Box::new(move |service, text| rules.apply_document(service, text)) })
    }

    /// Replaces the rules of the program. Rules with the name and the methods of an earlier one continue its counts.
    pub(crate) fn set(&self, rules: Option<Rules>) {
        let _texts = self.lock();
        let mut set = self.snapshot();
        set.common = rules.map(|rules| continuing(rules, set.common.as_deref()));
        self.store(set);
    }

    /// Applies the document of a service. An invalid one leaves the rules of the service as they are.
    fn apply_document(&self, service: &ServiceId, text: &Arc<str>) {
        let mut texts = self.lock();
        let name: Arc<str> = service.name().into();
        if texts.get(&name).is_some_and(|last| last == text) {
            return;
        }
        texts.insert(Arc::clone(&name), Arc::clone(text));
        let service = &name;
        let rules = match Rules::parse(text) {
            Ok(rules) => rules.restricted_to(service),
            Err(error) => {
                drop(texts);
                contained(|| warn!(%service, %error, "invalid rules, the earlier ones remain in use"));
                return;
            }
        };
        let (mut set, count) = (self.snapshot(), rules.names().count());
        let earlier = set.of_services.remove(service);
        if count > 0 {
            set.of_services.insert(Arc::clone(service), continuing(rules, earlier.as_deref()));
        }
        self.store(set);
        drop(texts);
        if count > 0 || earlier.is_some() {
            contained(|| info!(%service, rules = count, "rules of a service changed"));
        }
    }

    /// Returns the rule for a call of a method that begins at `now`, and starts to check the file if that is due.
    pub(crate) fn find(self: &Arc<Self>, method: &MethodInfo, now: Instant) -> Option<Arc<Rule>> {
        if !self.is_set.load(Ordering::Acquire) {
            return None;
        }
        if self.file.as_ref().is_some_and(|file| file.is_due(now)) {
            let source = Arc::clone(self);
            RulesFile::check_later(move || source.check());
        }
        self.rules.load().as_ref()?.find(method).cloned()
    }

    /// Returns the names of the rules that may apply to calls of a service.
    pub(crate) fn names_for(&self, service: &ServiceId) -> String {
        let rules = self.rules.load();
        let names = rules.iter().flat_map(|rules| rules.of(service).flat_map(|rules| rules.names_for(service)));
        names.collect::<Vec<_>>().join(", ")
    }

    /// Reads the file, and replaces the rules of the program if it has changed and is valid.
    fn check(&self) {
        if let Some(rules) = self.file.as_ref().and_then(RulesFile::check) {
            self.set(Some(rules));
        }
    }

    fn snapshot(&self) -> RuleSet {
        self.rules.load().as_deref().cloned().unwrap_or_default()
    }

    /// Publishes rules. The caller holds the lock.
    fn store(&self, set: RuleSet) {
        let is_set = set.common.is_some() || !set.of_services.is_empty() || self.file.is_some();
        self.rules.store(is_set.then(|| Arc::new(set)));
        self.is_set.store(is_set, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<str>>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuleSet {
    /// Returns the rules that may apply to a service. Those of its own document take precedence.
    fn of(&self, service: &ServiceId) -> impl Iterator<Item = &Rules> {
        let own = if self.of_services.is_empty() { None } else { self.of_services.get(service.name()) };
        own.into_iter().chain(&self.common).map(|rules| &**rules)
    }

    fn find(&self, method: &MethodInfo) -> Option<&Arc<Rule>> {
        self.of(method.service()).find_map(|rules| rules.find(method))
    }
}

/// Returns rules that continue the counts of earlier ones.
fn continuing(rules: Rules, earlier: Option<&Rules>) -> Arc<Rules> {
    Arc::new(match earlier {
        Some(earlier) => rules.continuing(earlier),
        None => rules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: ServiceId = ServiceId::from_static("demo.Greeter", "1.0");

    #[test]
    fn document_of_a_service_takes_precedence() {
        let source = RulesSource::new(None, None, None).unwrap();
        let other = ServiceId::from_static("demo.Other", "1.0");
        let find = |service: &ServiceId| {
            let rule = source.find(&MethodInfo::new(service.clone(), "hello"), Instant::now());
            rule.map(|rule| rule.name().to_owned())
        };
        let apply = |text: &str| source.apply_document(&SERVICE, &text.into());
        assert_eq!(find(&SERVICE), None);
        apply(r#"{"rules": [{"name": "of the service"}]}"#);
        assert_eq!((find(&SERVICE).as_deref(), find(&other)), (Some("of the service"), None));
        source.set(Some(Rules::parse(r#"{"rules": [{"name": "of the program"}]}"#).unwrap()));
        assert_eq!(find(&SERVICE).as_deref(), Some("of the service"));
        assert_eq!(find(&other).as_deref(), Some("of the program"));
        assert_eq!(source.names_for(&SERVICE), "of the service, of the program");
        apply("{ not a document");
        assert_eq!(find(&SERVICE).as_deref(), Some("of the service"), "the last valid document stays");
        apply(r#"{"rules": []}"#);
        assert_eq!(find(&SERVICE).as_deref(), Some("of the program"));
        source.set(None);
        assert_eq!(find(&SERVICE), None);
    }

    /// The second version of a service watches the same document.
    #[test]
    fn repeated_document_keeps_the_rules() {
        let source = RulesSource::new(None, None, None).unwrap();
        let apply = |version| {
            let service = ServiceId::from_static("demo.Greeter", version);
            source.apply_document(&service, &r#"{"rules": [{"max_concurrent": 1}]}"#.into());
            source.find(&MethodInfo::new(service, "hello"), Instant::now()).unwrap()
        };
        let (one, other) = (apply("1.0"), apply("2.0"));
        assert!(Arc::ptr_eq(&one, &other));
    }
}
