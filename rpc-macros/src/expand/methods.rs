//! The metadata of each method for client and server: number, arguments, outcome.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::LitStr;

use super::Expansion;
use crate::{
    answer::AnswerKind,
    method::Method,
    options::{Once, ServiceOptions},
    wire_type,
};

impl Expansion<'_> {
    /// Generates the service id, the method table, and the arguments and outcomes of the methods.
    pub(super) fn methods(&self) -> TokenStream {
        let ServiceOptions { name, version, core, .. } = &self.contract.options;
        let (service_id, methods) = (&self.names.service_id, &self.names.methods);
        let count = self.contract.methods.len();
        let infos = self.contract.methods.iter().enumerate().map(|(number, method)| self.info(number, method));
        let impls = self.contract.methods.iter().enumerate().map(|(number, method)| {
            let arguments = self.arguments_struct(method);
            let (resumption, method) = (self.resumption(method), self.method_impl(number, method));
            quote!(#arguments #method #resumption)
        });
        quote! {
            static #service_id: #core::ServiceId = #core::ServiceId::from_static(#name, #version);
            static #methods: [#core::MethodInfo; #count] = [#(#infos),*];
            #(#impls)*
        }
    }

    fn info(&self, number: usize, method: &Method) -> TokenStream {
        let ServiceOptions { name, version, codec, core } = &self.contract.options;
        let described = &self.names.described;
        let route = format!("{name}:{version}/{}", method.wire_name);
        let idempotent = method.options.idempotent.then(|| quote!(.idempotent()));
        let one_way = method.options.one_way.then(|| quote!(.one_way()));
        let sends_items = method.items.as_ref().map(|_| quote!(.sends_items()));
        let returns_items = method.answer.kind.stream().map(|_| quote!(.returns_items()));
        let once = method.options.once.map(|once| match once {
            Once::Server => quote!(.once(#core::Once::Server)),
            Once::Cluster => quote!(.once(#core::Once::Cluster)),
        });
        let duration = |duration: Duration| {
            let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
            quote!(::core::time::Duration::new(#seconds, #nanoseconds))
        };
        let timeout = method.options.timeout.map(duration).map(|timeout| quote!(.timeout(#timeout)));
        let stream_timeout = method.options.stream_timeout.as_ref().map(|(timeout, _)| duration(*timeout));
        let stream_timeout = stream_timeout.map(|timeout| quote!(.stream_timeout(#timeout)));
        let codec = codec.as_ref().map(|codec| quote!(.codec(#core::Codec::#codec)));
        let max_running = method.options.max_running.map(|limit| quote!(.limit_running(#limit)));
        let http = method.options.http.as_ref().map(|http| quote!(.http(#http)));
        let statuses = (!method.options.statuses.is_empty()).then(|| {
            let statuses = method.options.statuses.iter().map(|(name, status)| quote!((#name, #status)));
            quote!(.http_statuses(&[#(#statuses),*]))
        });
        quote! {
            #core::MethodInfo::from_static(#core::ServiceId::from_static(#name, #version), #route)
                #idempotent #once #one_way #sends_items #returns_items #timeout #stream_timeout #max_running #codec #http #statuses
                .described(&#described, #number)
        }
    }

    fn arguments_struct(&self, method: &Method) -> TokenStream {
        let (core, visibility) = (&self.contract.options.core, &self.contract.visibility);
        let arguments = self.arguments(method);
        let [serde, uncopied] = ["serde", "uncopied"].map(|name| private_path(core, name));
        let fields = method.parameters.iter().map(|parameter| {
            let (name, ty) = (&parameter.ident, &parameter.ty);
            let uncopied = wire_type::is_bytes(ty).then(|| quote!(#[serde(with = #uncopied)]));
            quote!(#uncopied #name: #ty)
        });
        let clone = method.cursor().map(|_| quote!(#[derive(::core::clone::Clone)]));
        quote! {
            #clone
            #[derive(#core::__private::serde::Serialize, #core::__private::serde::Deserialize)]
            #[serde(crate = #serde)]
            #visibility struct #arguments { #(#fields),* }
        }
    }

    /// Generates the trait of a method whose stream has a cursor.
    fn resumption(&self, method: &Method) -> Option<TokenStream> {
        let core = &self.contract.options.core;
        let (cursor, types) = (&method.cursor()?.ident, method.answer.kind.stream()?);
        let (marker, arguments, item) = (self.marker(method), self.arguments(method), &types.item);
        let error = types.error.as_ref().map_or_else(|| quote!(#core::Status), |error| quote!(#error));
        let stream = quote!(#core::Streaming<#item, #error>);
        Some(quote! {
            impl #core::ResumableMethod for #marker {
                type Item = #item;
                type StreamError = #error;

                fn set_cursor(arguments: &mut #arguments, cursor: <#item as #core::HasCursor>::Cursor) {
                    arguments.#cursor = ::core::option::Option::Some(cursor);
                }

                fn map_stream(
                    outcome: Self::Outcome,
                    map: impl ::core::ops::FnOnce(#stream) -> #stream,
                ) -> Self::Outcome {
                    outcome.map(map)
                }
            }
        })
    }

    fn method_impl(&self, number: usize, method: &Method) -> TokenStream {
        let core = &self.contract.options.core;
        let (marker, arguments, methods) = (self.marker(method), self.arguments(method), &self.names.methods);
        let (value, info) = (&method.answer.written, quote!(<Self as #core::Method>::info()));
        let read_as = |value| match method.answer.is_bytes {
            true => (quote!(#core::__private::Uncopied<#value>), Some(quote!(.map(|value| value.0)))),
            false => (quote!(#value), None),
        };
        let (outcome, read) = match &method.answer.kind {
            AnswerKind::Nothing => (quote!(::core::result::Result<(), #core::Error>), quote!(nothing(reply))),
            AnswerKind::Stream(_) => {
                (quote!(::core::result::Result<#value, #core::Error>), quote!(stream(reply, #info)))
            }
            AnswerKind::FallibleStream(types) => {
                let [stream, error] = &types.0;
                let outcome = quote!(::core::result::Result<#stream, <#error as #core::MethodError>::CallError>);
                (outcome, quote!(fallible_stream::<_, _, #error>(reply, #info)))
            }
            AnswerKind::Plain => {
                let (read_as, bare) = read_as(value);
                (quote!(::core::result::Result<#value, #core::Error>), quote!(plain::<#read_as>(reply, #info)#bare))
            }
            AnswerKind::Fallible(types) => {
                let [value, error] = &**types;
                let outcome = quote!(::core::result::Result<#value, <#error as #core::MethodError>::CallError>);
                let (read_as, bare) = read_as(value);
                (outcome, quote!(fallible::<#read_as, #error>(reply, #info)#bare))
            }
        };
        quote! {
            impl #core::Method for #marker {
                type Arguments = #arguments;
                type Outcome = #outcome;

                fn info() -> &'static #core::MethodInfo {
                    &#methods[#number]
                }

                fn outcome(reply: ::core::result::Result<#core::Reply, #core::Error>) -> Self::Outcome {
                    #core::__private::#read
                }
            }
        }
    }
}

/// Returns the path of `name` as a string literal, which the derives of serde require.
fn private_path(core: &syn::Path, name: &str) -> LitStr {
    let leading = core.leading_colon.map_or("", |_| "::");
    let segments: Vec<String> = core.segments.iter().map(|segment| segment.ident.to_string()).collect();
    LitStr::new(&format!("{leading}{}::__private::{name}", segments.join("::")), proc_macro2::Span::call_site())
}
