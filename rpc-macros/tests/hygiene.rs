//! Generated code keeps its meaning in any scope, with any names around it.

#![no_implicit_prelude]
#![deny(missing_docs, unsafe_code, warnings)]
#![deny(
    dead_code,
    deprecated,
    missing_debug_implementations,
    non_local_definitions,
    rust_2018_idioms,
    single_use_lifetimes,
    trivial_casts,
    unnameable_types,
    unreachable_pub,
    unused,
    unused_qualifications
)]
#![warn(clippy::pedantic)]

extern crate rpc_core as renamed;

use ::std::assert_eq;

/// Types with names of the prelude and of generated code, and a contract that uses them.
pub mod shadows {
    use ::std::{clone::Clone, fmt::Debug};

    use ::rpc_core::{__private::serde, rpc_service};

    macro_rules! shadow {
        ($($name:ident)*) => {
            $(
                /// Shadows a name.
                #[allow(non_camel_case_types)]
                #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
                #[serde(crate = "::rpc_core::__private::serde")]
                pub struct $name;
            )*
        };
    }
    shadow!(
        Result Option String Vec Box Arc Ok Err Some None Send Sync Future Pin Call Caller Service Payload Responder Error
        CallError Bytes Local Method MethodInfo ServiceId T C ImplArguments METHODS SERVICE_ID Context
    );

    /// A contract.
    #[rpc_service(crate = "::rpc_core")]
    pub trait Shadows {
        /// Takes shadowing types.
        async fn r#impl(&self, result: Result, caller: C, service: T, arguments: ImplArguments) -> Result;
        /// Returns a shadowing type.
        async fn give(&self, methods: METHODS, id: SERVICE_ID) -> Option;
        /// Takes and returns a type with the name of `bytes::Bytes`.
        async fn bytes(&self, bytes: Bytes) -> Bytes;
        /// Has a default body.
        async fn body(&self, ok: Ok) -> Ok {
            ok
        }
        /// Returns an error.
        async fn fail(&self, some: Some) -> ::std::result::Result<Vec, Error>;
    }

    /// An implementation.
    #[derive(Debug)]
    pub struct Implementation;

    impl Shadows for Implementation {
        async fn r#impl(&self, result: Result, _: C, _: T, _: ImplArguments) -> Result {
            result
        }

        async fn give(&self, _: METHODS, _: SERVICE_ID) -> Option {
            Option
        }

        async fn bytes(&self, bytes: Bytes) -> Bytes {
            bytes
        }

        async fn fail(&self, _: Some) -> ::std::result::Result<Vec, Error> {
            ::std::result::Result::Err(Error)
        }
    }
}

/// Parameters with the names of local variables of the generated code.
pub mod parameters {
    use ::rpc_core::rpc_service;
    use ::std::primitive::u8;

    /// A contract.
    #[rpc_service(crate = "::renamed")]
    pub trait Parameters {
        /// Returns the sum.
        #[expect(clippy::too_many_arguments)]
        async fn add(
            &self,
            self_: u8,
            responder: u8,
            arguments: u8,
            caller: u8,
            service: u8,
            method: u8,
            outcome: u8,
            status: u8,
            r#type: u8,
            formatter: u8,
        ) -> u8;
    }

    /// An implementation.
    #[derive(Debug)]
    pub struct Implementation;

    impl Parameters for Implementation {
        async fn add(
            &self,
            self_: u8,
            responder: u8,
            arguments: u8,
            caller: u8,
            service: u8,
            method: u8,
            outcome: u8,
            status: u8,
            r#type: u8,
            formatter: u8,
        ) -> u8 {
            self_ + responder + arguments + caller + service + method + outcome + status + r#type + formatter
        }
    }
}

/// Traits and types with restricted visibility.
#[allow(clippy::needless_pub_self)]
mod visibilities {
    macro_rules! contract {
        ($visibility:vis $name:ident) => {
            pub(crate) mod $name {
                use ::rpc_core::{__private::serde, rpc_service};

                #[derive(Debug, serde::Serialize, serde::Deserialize)]
                #[serde(crate = "::rpc_core::__private::serde")]
                $visibility struct Thing;

                #[rpc_service]
                $visibility trait Contract {
                    async fn take(&self, thing: Thing) -> ::std::result::Result<Thing, Thing>;
                }
            }
        };
    }

    contract!(inherited);
    contract!(pub(self) of_self);
    contract!(pub(super) of_super);
    contract!(pub(crate) of_crate);
    contract!(pub(in crate::visibilities) in_path);
    contract!(pub(in self) in_self);
    contract!(pub(in super::super) in_super);
}

/// A contract without methods.
#[::rpc_core::rpc_service(crate = "::renamed")]
pub trait Empty {}

/// A contract from a macro, whose tokens are in invisible groups.
macro_rules! contract {
    ($(#[$attribute:meta])* $name:ident { $method:ident($argument:ident: $type:ty) -> $output:ty }) => {
        $(#[$attribute])*
        #[::rpc_core::rpc_service(crate = "::rpc_core")]
        pub trait $name {
            /// A method.
            async fn $method(&self, $argument: $type) -> $output;
        }
    };
}

contract! {
    /// A contract.
    ByMacro { length(text: ::std::string::String) -> ::std::result::Result<::std::primitive::usize, ()> }
}

/// A contract that `cfg` removes.
#[::rpc_core::rpc_service]
#[cfg(any())]
pub trait Absent {
    async fn method(&self);
}

/// A contract with unconventional names.
#[::rpc_core::rpc_service(crate = "::rpc_core")]
#[expect(non_camel_case_types)]
pub trait other_style {
    /// A method.
    #[expect(non_snake_case)]
    async fn doIt(&self, inThisWay: ::std::string::String);
}

/// A deprecated contract.
#[deprecated]
#[::rpc_core::rpc_service(crate = "::rpc_core")]
pub trait Old {
    /// A deprecated method.
    #[deprecated]
    async fn older(&self);
}

async fn in_a_function() {
    use ::std::{primitive::u8, vec, vec::Vec};

    #[derive(Debug, ::rpc_core::__private::serde::Serialize, ::rpc_core::__private::serde::Deserialize)]
    #[serde(crate = "::rpc_core::__private::serde")]
    struct Thing(u8);

    #[::rpc_core::rpc_service]
    trait Inner {
        async fn twice(&self, thing: Thing) -> Vec<Thing>;
    }

    struct Implementation;

    impl Inner for Implementation {
        async fn twice(&self, thing: Thing) -> Vec<Thing> {
            vec![Thing(thing.0), thing]
        }
    }

    let things = InnerClient::local(Implementation).twice(Thing(7)).await.expect("a local call succeeds");
    assert_eq!(things.len(), 2);
    assert_eq!(things[0].0, 7);
}

async fn run() {
    let shadows = shadows::ShadowsClient::local(shadows::Implementation);
    ::std::assert!(shadows.bytes(shadows::Bytes).await.is_ok());
    ::std::assert!(shadows.body(shadows::Ok).await.is_ok());
    ::std::assert!(shadows.fail(shadows::Some).await.is_err());
    let parameters = parameters::ParametersClient::local(parameters::Implementation);
    assert_eq!(parameters.add(1, 2, 3, 4, 5, 6, 7, 8, 9, 10).await.ok(), ::std::option::Option::Some(55));
    in_a_function().await;
}

fn main() {
    ::tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the runtime builds").block_on(run());
}
