//! What a contract becomes.

mod client;
mod contract;
mod markers;
mod methods;
mod server;

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::{contract::Contract, ident, method::Method};

/// The trait, its server, its client, and its methods as types.
///
/// What nobody need name stands in an anonymous constant: there it can mention the user's types wherever the trait stands,
/// which a module inside a function could not.
pub(crate) fn expand(contract: &Contract) -> TokenStream {
    let names = Names::new(contract);
    let expansion = Expansion { contract, names };
    let items = [expansion.contract(), expansion.markers(), expansion.server(), expansion.client()];
    let hidden = [expansion.methods(), expansion.server_impls(), expansion.client_impls()];
    quote! {
        #(#items)*

        #[allow(dead_code, deprecated)]
        const _: () = {
            #(#hidden)*
        };
    }
}

/// A contract, and what its parts are called.
struct Expansion<'a> {
    contract: &'a Contract,
    names: Names,
}

impl Expansion<'_> {
    /// The path of a method as a type.
    fn marker(&self, method: &Method) -> TokenStream {
        let (module, marker) = (&self.names.module, &method.marker);
        quote!(#module::#marker)
    }

    /// The struct of a method's arguments.
    fn arguments(&self, method: &Method) -> Ident {
        self.contract.fresh.ident(&format!("{}Arguments", method.marker))
    }
}

/// Names of generated items. Those that stand beside the user's types in one scope are made fresh.
struct Names {
    server: Ident,
    client: Ident,
    module: Ident,
    /// The server's type parameter.
    implementation: Ident,
    /// The client's type parameter.
    caller: Ident,
    service_id: Ident,
    methods: Ident,
}

impl Names {
    fn new(contract: &Contract) -> Self {
        let name = &contract.ident;
        Self {
            server: format_ident!("{}Server", name),
            client: format_ident!("{}Client", name),
            module: format_ident!("{}_methods", ident::snake(name), span = name.span()),
            implementation: contract.fresh.ident("T"),
            caller: contract.fresh.ident("C"),
            service_id: contract.fresh.ident("SERVICE_ID"),
            methods: contract.fresh.ident("METHODS"),
        }
    }
}
