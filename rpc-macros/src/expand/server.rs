//! The generated server.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::{Expansion, Names};
use crate::{answer::AnswerKind, method::Method};

impl Expansion<'_> {
    /// Generates the struct of the server.
    pub(super) fn server(&self) -> TokenStream {
        let (visibility, name) = (&self.contract.visibility, &self.contract.ident);
        let Names { server, implementation, .. } = &self.names;
        let about =
            format!("Serves a [`{name}`]: decodes its calls and encodes its results. Cheap to clone; clones share it.");
        quote! {
            #[doc = #about]
            #[allow(dead_code, non_camel_case_types)]
            #visibility struct #server<#implementation> {
                service: ::std::sync::Arc<#implementation>,
            }
        }
    }

    /// Generates the methods and traits of the server.
    pub(super) fn server_impls(&self) -> TokenStream {
        let (core, name) = (&self.contract.options.core, &self.contract.ident);
        let Names { server, implementation, service_id, .. } = &self.names;
        let (service_impl, title, contract) = (self.service_impl(), server.to_string(), self.contract_function());
        quote! {
            impl<#implementation: #name> #server<#implementation> {
                /// Creates a server for `service`.
                pub fn new(service: #implementation) -> Self {
                    Self::from_arc(::std::sync::Arc::new(service))
                }

                /// Creates a server for a shared `service`.
                pub fn from_arc(service: ::std::sync::Arc<#implementation>) -> Self {
                    Self { service }
                }

                #contract
            }

            impl<#implementation> ::core::clone::Clone for #server<#implementation> {
                fn clone(&self) -> Self {
                    Self { service: ::core::clone::Clone::clone(&self.service) }
                }
            }

            impl<#implementation> ::core::fmt::Debug for #server<#implementation> {
                fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    #core::__private::debug_server(formatter, #title, &#service_id)
                }
            }

            #service_impl
        }
    }

    fn service_impl(&self) -> TokenStream {
        let (core, name) = (&self.contract.options.core, &self.contract.ident);
        let Names { server, implementation, service_id, methods, described, .. } = &self.names;
        let arms = self.contract.methods.iter().enumerate().map(|(number, method)| {
            let handling = self.handling(number, method);
            quote!(#number => #handling,)
        });
        quote! {
            impl<#implementation: #name> #core::Service for #server<#implementation> {
                fn id(&self) -> &#core::ServiceId {
                    &#service_id
                }

                fn methods(&self) -> &[#core::MethodInfo] {
                    &#methods
                }

                fn contract(&self) -> ::core::option::Option<&#core::descriptor::Contract> {
                    ::core::option::Option::Some(#described.contract())
                }

                fn call(
                    &self,
                    method: ::core::primitive::usize,
                    arguments: #core::Payload,
                    responder: #core::Responder,
                ) -> #core::BoxFuture<'static, ()> {
                    let service = ::core::clone::Clone::clone(&self.service);
                    match method {
                        #(#arms)*
                        _ => #core::__private::no_such_method(responder),
                    }
                }
            }
        }
    }

    /// Generates the code that decodes, calls and answers.
    ///
    /// The arguments are moved into the handler before the first await, so the future has no fields for them.
    fn handling(&self, number: usize, method: &Method) -> TokenStream {
        let methods = &self.names.methods;
        let (core, name) = (&self.contract.options.core, &self.contract.ident);
        let (implementation, arguments, ident) = (&self.names.implementation, self.arguments(method), &method.ident);
        let parameters = method.parameters.iter().map(|parameter| &parameter.ident);
        let span = method.answer.span();
        let items = method.items.as_ref().map(|items| {
            let item = &items.item;
            quote_spanned!(span=> #core::__private::items::<#item>(&mut responder))
        });
        let mutable = items.as_ref().map(|_| quote!(let mut responder = responder;));
        let answer = match (&method.answer.kind, method.answer.is_bytes) {
            (AnswerKind::Stream(_), _) => quote_spanned!(span=> #core::__private::send_stream(responder, outcome)),
            (AnswerKind::FallibleStream(_), _) => {
                quote_spanned!(span=> #core::__private::answer_stream(responder, outcome))
            }
            (AnswerKind::Fallible(_), false) => quote_spanned!(span=> #core::__private::answer(responder, outcome)),
            (AnswerKind::Fallible(_), true) => {
                quote_spanned!(span=> #core::__private::answer(responder, outcome.map(#core::__private::Uncopied)))
            }
            (_, false) => quote_spanned!(span=> responder.result(outcome)),
            (_, true) => quote_spanned!(span=> responder.result(#core::__private::Uncopied(outcome))),
        };
        quote_spanned! {span=>
            ::std::boxed::Box::pin(async move {
                #mutable
                let outcome = {
                    // Most payloads are short, and need no future of their own.
                    let decoded = if arguments.is_short() {
                        arguments.decode_short::<#arguments>()
                    } else {
                        arguments.decode_for::<#arguments>(responder.context().peer()).await
                    };
                    let arguments = match decoded {
                        ::core::result::Result::Ok(arguments) => arguments,
                        ::core::result::Result::Err(status) => {
                            return responder.reject(#core::__private::undecodable(status, &#methods[#number]));
                        }
                    };
                    <#implementation as #name>::#ident(&*service, #(arguments.#parameters,)* #items)
                }
                .await;
                #answer.await
            })
        }
    }
}
