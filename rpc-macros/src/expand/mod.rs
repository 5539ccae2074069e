//! What a contract becomes.

mod client;
mod contract;
mod markers;
mod methods;
mod server;

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::Item;

use crate::{
    contract::{Contract, without_mistakes},
    ident,
    method::Method,
    mistakes::Mistakes,
};

/// What `#[rpc_service]` makes of the item below it.
pub(crate) fn rpc_service(attribute: TokenStream, item: Item) -> TokenStream {
    match item {
        Item::Trait(item) => match Contract::parse(attribute, &item) {
            Ok(contract) => expand(&contract),
            Err(mistakes) => mistakes.and(without_mistakes(item)),
        },
        other => {
            let mut mistakes = Mistakes::default();
            mistakes.at(&other, "a contract is a trait: put `#[rpc_service]` above one");
            mistakes.and(other)
        }
    }
}

/// The trait, its server, its client, and its methods as types.
///
/// What nobody need name stands in an anonymous constant: there it can mention the user's types wherever the trait stands,
/// which a module inside a function could not.
///
/// The lints that are allowed tell the user what the trait itself tells, or nothing that a user could mend.
fn expand(contract: &Contract) -> TokenStream {
    let names = Names::new(contract);
    let expansion = Expansion { contract, names };
    let conditions: Vec<_> = contract.attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
    let contract = expansion.contract();
    let items = [expansion.markers(), expansion.server(), expansion.client()].map(|item| quote!(#(#conditions)* #item));
    let hidden = [expansion.methods(), expansion.server_impls(), expansion.client_impls()];
    quote! {
        #contract
        #(#items)*

        #(#conditions)*
        #[allow(
            clippy::too_many_arguments,
            dead_code,
            deprecated,
            missing_debug_implementations,
            non_snake_case,
            unnameable_types,
        )]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(attribute: TokenStream) -> String {
        let item = syn::parse_quote! {
            trait Greeter {
                #[rpc(idempotent, timeout = "1s")]
                async fn hello(&self, name: String) -> Result<String, ()>;
                async fn plain(&self) -> u8;
                #[rpc(one_way)]
                async fn one_way(&self);
            }
        };
        let Ok(contract) = Contract::parse(attribute, &item) else { panic!("the contract has no mistakes") };
        expand(&contract).to_string()
    }

    #[test]
    fn generated_code_names_one_crate() {
        assert!(expanded(quote!()).contains(":: rpc_core :: Service "));
        let renamed = expanded(quote!(crate = "crate::vendored::rpc"));
        assert!(renamed.contains("crate :: vendored :: rpc :: Service "));
        assert!(renamed.contains("\"crate::vendored::rpc::__private::serde\""));
        for other in ["rpc_core", ":: serde ::", "tokio"] {
            let unexpected = renamed.replace("__private :: serde ::", "").contains(other);
            assert!(!unexpected, "{other}");
        }
    }
}
