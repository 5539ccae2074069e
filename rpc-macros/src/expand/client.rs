//! The generated client.

use proc_macro2::TokenStream;
use quote::quote;

use super::{Expansion, Names};
use crate::method::Method;

impl Expansion<'_> {
    /// Generates the struct of the client.
    pub(super) fn client(&self) -> TokenStream {
        let (visibility, name) = (&self.contract.visibility, &self.contract.ident);
        let core = &self.contract.options.core;
        let Names { client, caller, .. } = &self.names;
        let about =
            format!("A client of [`{name}`]. Cloning it clones its caller, which may be of any type by default.");
        quote! {
            #[doc = #about]
            #[allow(dead_code, non_camel_case_types)]
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            #visibility struct #client<#caller = #core::DynCaller> {
                caller: #caller,
            }
        }
    }

    /// Generates the methods of the client.
    pub(super) fn client_impls(&self) -> TokenStream {
        let (core, name) = (&self.contract.options.core, &self.contract.ident);
        let Names { client, server, caller, implementation, service_id, .. } = &self.names;
        let methods = self.contract.methods.iter().map(|method| self.proxy(method));
        let contract = self.contract_function();
        quote! {
            impl<#caller: #core::Caller> #client<#caller> {
                /// Creates a client that calls through `caller`.
                pub fn new(caller: #caller) -> Self {
                    Self { caller }
                }

                #contract

                #(#methods)*
            }

            impl<#caller: #core::Caller> #core::ServiceClient for #client<#caller> {
                type Caller = #caller;

                fn service_id() -> &'static #core::ServiceId {
                    &#service_id
                }
            }

            impl<#implementation: #name> #client<#core::Local<#server<#implementation>>> {
                /// Creates a client that calls `service` within this process.
                pub fn local(service: #implementation) -> Self {
                    Self { caller: #core::Local::new(#server::new(service)) }
                }
            }
        }
    }

    fn proxy(&self, method: &Method) -> TokenStream {
        let (core, caller) = (&self.contract.options.core, &self.names.caller);
        let (marker, arguments, ident) = (self.marker(method), self.arguments(method), &method.ident);
        let docs = method.docs(&format!("Calls [`{}::{}`].", self.contract.ident, ident));
        let deprecated = method.attributes.iter().filter(|attribute| attribute.path().is_ident("deprecated"));
        let names: Vec<_> = method.parameters.iter().map(|parameter| &parameter.ident).collect();
        let types = method.parameters.iter().map(|parameter| &parameter.ty);
        let items = method.items.iter().map(|items| (&items.parameter.ident, &items.parameter.ty));
        let (items, item_types): (Vec<_>, Vec<_>) = items.unzip();
        quote! {
            #docs
            #(#deprecated)*
            pub fn #ident(&self, #(#names: #types,)* #(#items: #item_types)*) -> #core::Call<#caller, #marker> {
                #core::Call::new(::core::clone::Clone::clone(&self.caller), #arguments { #(#names),* })
                    #(.with_items(#items))*
            }
        }
    }
}
