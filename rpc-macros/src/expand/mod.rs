//! Code generation.

mod client;
mod contract;
mod description;
mod markers;
mod methods;
mod server;

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{Item, Path};

use crate::{
    contract::{Contract, recovered},
    diagnostics::Diagnostics,
    ident,
    method::Method,
};

/// Expands `#[rpc_service]` on an item. `core` is the default of the option `crate`.
pub(crate) fn rpc_service(attribute: TokenStream, item: Item, core: Path) -> TokenStream {
    match item {
        Item::Trait(item) => match Contract::parse(attribute, &item, core) {
            Ok(contract) => expand(&contract),
            Err(diagnostics) => diagnostics.into_tokens_with(recovered(item)),
        },
        other => {
            let mut diagnostics = Diagnostics::default();
            diagnostics.error(&other, "`#[rpc_service]` can only be applied to a trait");
            diagnostics.into_tokens_with(other)
        }
    }
}

/// Generates the trait, its server, its client, and the types of its methods.
///
/// Items that users do not name are inside an anonymous constant. Unlike in a module, they can refer to types of an
/// enclosing function there.
///
/// The allowed lints would repeat a warning about the trait itself, or report code that the user cannot change.
fn expand(contract: &Contract) -> TokenStream {
    let names = Names::new(contract);
    let expansion = Expansion { contract, names };
    let conditions: Vec<_> = contract.attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
    let contract = expansion.contract();
    let items = [expansion.markers(), expansion.server(), expansion.client()].map(|item| quote!(#(#conditions)* #item));
    let hidden = [expansion.description(), expansion.methods(), expansion.server_impls(), expansion.client_impls()];
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

/// A contract, and the names of its generated items.
struct Expansion<'a> {
    contract: &'a Contract,
    names: Names,
}

impl Expansion<'_> {
    /// Returns the path of the type of a method.
    fn marker(&self, method: &Method) -> TokenStream {
        let (module, marker) = (&self.names.module, &method.marker);
        quote!(#module::#marker)
    }

    /// Returns the name of the arguments struct of a method.
    fn arguments(&self, method: &Method) -> Ident {
        self.contract.fresh.ident(&format!("{}Arguments", method.marker))
    }
}

/// The names of generated items. Names in a scope with the user's types are unique among them.
struct Names {
    server: Ident,
    client: Ident,
    module: Ident,
    /// The type parameter of the server.
    implementation: Ident,
    /// The type parameter of the client.
    caller: Ident,
    service_id: Ident,
    methods: Ident,
    /// The description of the contract.
    described: Ident,
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
            described: contract.fresh.ident("CONTRACT"),
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
        let Ok(contract) = Contract::parse(attribute, &item, syn::parse_quote!(::rpc_core)) else {
            panic!("the contract is valid")
        };
        expand(&contract).to_string()
    }

    #[test]
    fn generated_code_refers_to_one_crate_only() {
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
