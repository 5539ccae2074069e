//! `#[rpc_service]`.

mod answer;
mod contract;
mod duration;
mod expand;
mod ident;
mod method;
mod mistakes;
mod options;
mod parameter;
mod travel;
mod wire_name;

use proc_macro::TokenStream;
use quote::quote;
use syn::{ItemTrait, parse_macro_input};

use self::contract::{Contract, without_options};

/// Makes a contract of a trait.
#[proc_macro_attribute]
pub fn rpc_service(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as ItemTrait);
    match Contract::parse(attribute.into(), &item) {
        Ok(contract) => expand::expand(&contract).into(),
        Err(mistakes) => {
            let (errors, item) = (mistakes.into_compile_errors(), without_options(item));
            quote!(#errors #item).into()
        }
    }
}
