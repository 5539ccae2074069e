//! [`ContractCell`]: the description of a service, made when it is first needed.

use std::{fmt, sync::OnceLock, thread};

use serde::de::DeserializeOwned;

use super::{
    model::{Contract, MethodContract},
    trace::{Description, Traced, Tracer, untraced},
    types::Type,
};
use crate::ServiceId;

/// The description of a service, made when it is first needed. Generated code has one for each contract.
#[doc(hidden)]
pub struct ContractCell {
    service: &'static ServiceId,
    docs: &'static str,
    describe: fn(&mut ContractBuilder),
    contract: OnceLock<Contract>,
    /// The digests of the methods, in their order.
    #[cfg(feature = "transport")]
    digests: OnceLock<Box<[u64]>>,
}

impl ContractCell {
    /// Creates the cell of a service whose methods `describe` adds.
    pub const fn new(service: &'static ServiceId, docs: &'static str, describe: fn(&mut ContractBuilder)) -> Self {
        Self {
            service,
            docs,
            describe,
            contract: OnceLock::new(),
            #[cfg(feature = "transport")]
            digests: OnceLock::new(),
        }
    }

    /// Returns the description.
    pub fn contract(&self) -> &Contract {
        self.contract.get_or_init(|| self.describe())
    }

    /// Returns the digest of the method with this number.
    #[cfg(feature = "transport")]
    #[inline]
    pub fn digest(&self, number: usize) -> Option<u64> {
        let digests = self.digests.get_or_init(|| {
            let contract = self.contract();
            contract.methods.iter().map(|method| contract.method_digest(method)).collect()
        });
        digests.get(number).copied()
    }

    fn describe(&self) -> Contract {
        // The `Deserialize` of a type may use much of the stack at each level, and the caller may have little.
        let traced = thread::scope(|scope| {
            let trace = || ContractBuilder::new(true).described(self);
            let tracing = thread::Builder::new().name("msnb-contract".to_owned()).stack_size(STACK);
            tracing.spawn_scoped(scope, trace).ok()?.join().ok()
        });
        traced.unwrap_or_else(|| ContractBuilder::new(false).described(self))
    }
}

impl fmt::Debug for ContractCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContractCell").field("service", &self.service).finish_non_exhaustive()
    }
}

/// Describes the methods of a service.
#[doc(hidden)]
pub struct ContractBuilder {
    /// `None` if types are not traced.
    tracer: Option<Tracer>,
    methods: Vec<TracedMethod>,
}

struct TracedMethod {
    contract: MethodContract,
    arguments: Option<TracedType>,
    types: Vec<(Part, TracedType)>,
}

/// A part of a method, other than its parameters.
#[derive(Clone, Copy)]
enum Part {
    CallerItems,
    Result,
    Items,
    Error,
    ItemsError,
}

#[derive(Clone, Copy)]
enum TracedType {
    Traced(Traced),
    Untraced(&'static str),
}

impl ContractBuilder {
    fn new(traces: bool) -> Self {
        Self { tracer: traces.then(Tracer::default), methods: Vec::new() }
    }

    fn described(mut self, cell: &ContractCell) -> Contract {
        (cell.describe)(&mut self);
        let Self { tracer, methods } = self;
        let tracer = tracer.unwrap_or_default();
        let (methods, types) =
            tracer.describe(|description| methods.into_iter().map(|method| method.described(description)).collect());
        Contract {
            name: cell.service.name().to_owned(),
            version: cell.service.version().to_owned(),
            docs: cell.docs.to_owned(),
            methods,
            types,
        }
    }

    /// Adds a method, which `contract` describes without its types.
    pub fn method(&mut self, contract: MethodContract) -> MethodBuilder<'_> {
        self.methods.push(TracedMethod { contract, arguments: None, types: Vec::new() });
        MethodBuilder { builder: self }
    }

    fn trace<T: DeserializeOwned>(&mut self) -> TracedType {
        match &mut self.tracer {
            Some(tracer) => TracedType::Traced(tracer.trace::<T>()),
            None => TracedType::Untraced(std::any::type_name::<T>()),
        }
    }
}

/// Describes a method.
#[doc(hidden)]
pub struct MethodBuilder<'a> {
    builder: &'a mut ContractBuilder,
}

impl MethodBuilder<'_> {
    /// Sets the type of the arguments, a struct whose fields are the parameters.
    pub fn arguments<T: DeserializeOwned>(&mut self) {
        let traced = self.builder.trace::<T>();
        if let Some(method) = self.builder.methods.last_mut() {
            method.arguments = Some(traced);
        }
    }

    /// Sets the type of the items that the caller sends.
    pub fn caller_items<T: DeserializeOwned>(&mut self) {
        self.part::<T>(Part::CallerItems);
    }

    /// Sets the type of the result.
    pub fn result<T: DeserializeOwned>(&mut self) {
        self.part::<T>(Part::Result);
    }

    /// Sets the type of the items that the callee sends.
    pub fn items<T: DeserializeOwned>(&mut self) {
        self.part::<T>(Part::Items);
    }

    /// Returns the builder of the error.
    pub fn error(&mut self) -> ErrorBuilder<'_> {
        ErrorBuilder { builder: self.builder, part: Part::Error }
    }

    /// Returns the builder of the error with which the callee may end its stream.
    pub fn items_error(&mut self) -> ErrorBuilder<'_> {
        ErrorBuilder { builder: self.builder, part: Part::ItemsError }
    }

    fn part<T: DeserializeOwned>(&mut self, part: Part) {
        let traced = self.builder.trace::<T>();
        self.builder.set(part, traced);
    }
}

impl ContractBuilder {
    fn set(&mut self, part: Part, traced: TracedType) {
        if let Some(method) = self.methods.last_mut() {
            method.types.push((part, traced));
        }
    }
}

/// Describes the error of a method.
#[doc(hidden)]
pub struct ErrorBuilder<'a> {
    builder: &'a mut ContractBuilder,
    part: Part,
}

impl ErrorBuilder<'_> {
    /// Sets the type of the value that is the payload of an answer with this error.
    pub fn value<E: DeserializeOwned>(&mut self) {
        let traced = self.builder.trace::<E>();
        self.builder.set(self.part, traced);
    }

    /// Sets an error whose form on the wire is not known.
    pub fn opaque(&mut self, rust_name: &'static str) {
        self.builder.set(self.part, TracedType::Untraced(rust_name));
    }
}

impl TracedMethod {
    fn described(self, description: &mut Description<'_>) -> MethodContract {
        let Self { mut contract, arguments, types } = self;
        if let Some(TracedType::Traced(arguments)) = arguments {
            contract.parameters = description.fields(arguments);
        }
        for (part, traced) in types {
            let ty = traced.described(description);
            match part {
                Part::CallerItems => contract.caller_items = Some(ty),
                Part::Result => contract.result = ty,
                Part::Items => contract.items = Some(ty),
                Part::Error => contract.error = Some(ty),
                Part::ItemsError => contract.items_error = Some(ty),
            }
        }
        contract
    }
}

impl TracedType {
    fn described(self, description: &mut Description<'_>) -> Type {
        match self {
            Self::Traced(traced) => description.of(traced),
            Self::Untraced(rust_name) => untraced(rust_name),
        }
    }
}

/// The size of the stack on which types are traced: 16 MiB of address space.
const STACK: usize = 16 << 20;
