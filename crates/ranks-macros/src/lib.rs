//! The attribute `ranks::test`, which is documented where `ranks` exports it.
//!
//! - `settings.rs`: what is written in the attribute
//! - `function.rs`: the function below it, checked and turned into a test

mod function;
mod settings;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;
use syn::Error;

#[allow(
    missing_docs,
    reason = "the documentation stands at the export, where its examples can use the library"
)]
#[proc_macro_attribute]
pub fn test(attribute: TokenStream, function: TokenStream) -> TokenStream {
    expand(attribute.into(), function.into()).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(
    attribute: proc_macro2::TokenStream,
    function: proc_macro2::TokenStream,
) -> syn::Result<proc_macro2::TokenStream> {
    let settings = syn::parse2(attribute)?;
    let function = function::check(syn::parse2(function)?)?;
    Ok(function::test(function, &settings))
}
