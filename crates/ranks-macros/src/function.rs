//! The function below the attribute: checked, and turned into a test that calls it in every rank.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, PatType, Result, Safety, Type};

use crate::settings::{OnFailure, Settings};

const HELP: &str = "write fn name(world: &World), which may return a Result";

/// A function that can be a test.
pub(crate) struct Function {
    item: ItemFn,
    /// The type of its only parameter.
    world: Type,
}

/// Refuses what cannot be a test.
pub(crate) fn check(item: ItemFn) -> Result<Function> {
    if let Some(test) = item.attrs.iter().find(|attribute| attribute.path().is_ident("test")) {
        return Err(Error::new_spanned(test, "remove #[test]: ranks::test makes this a test already"));
    }
    let signature = &item.sig;
    if let Some(keyword) = &signature.asyncness {
        return refuse(keyword, "a test with ranks is not async");
    }
    if let Safety::Unsafe(keyword) = &signature.safety {
        return refuse(keyword, "a test with ranks is not unsafe");
    }
    if !signature.generics.params.is_empty() {
        return refuse(&signature.generics, "a test with ranks is not generic");
    }
    let mut parameters = signature.inputs.iter();
    let world = match (parameters.next(), parameters.next()) {
        (Some(FnArg::Typed(PatType { ty, .. })), None) => (**ty).clone(),
        (Some(FnArg::Receiver(receiver)), _) => return refuse(receiver, "a test with ranks is no method"),
        (None, _) => return refuse(signature, "a test with ranks takes the world"),
        (_, Some(second)) => return refuse(second, "a test with ranks takes nothing but the world"),
    };
    match &world {
        Type::Reference(reference) if reference.mutability.is_some() => {
            refuse(reference, "the world is not borrowed mutably")
        }
        _ => Ok(Function { item, world }),
    }
}

fn refuse<T>(place: &dyn ToTokens, what: &str) -> Result<T> {
    Err(Error::new_spanned(place, format!("{what}: {HELP}")))
}

/// A test of the same name without parameters, with the function inside.
pub(crate) fn test(function: Function, settings: &Settings) -> TokenStream {
    let Function { mut item, world } = function;
    let attributes = std::mem::take(&mut item.attrs);
    let (visibility, name, ranks) = (&item.vis, &item.sig.ident, &settings.ranks);
    let path = name.unraw().to_string();
    let timeout = settings.timeout.map(|timeout| {
        let milliseconds = timeout.as_millis() as u64;
        quote!(.timeout(::core::time::Duration::from_millis(#milliseconds)))
    });
    let on_failure = settings.on_failure.map(|on_failure| {
        let variant = match on_failure {
            OnFailure::Kill => quote!(Kill),
            OnFailure::Continue => quote!(Continue),
        };
        quote!(.on_failure(::ranks::OnFailure::#variant))
    });
    // A wrong type is shown where it stands in the function.
    let body = quote_spanned!(world.span()=> #name);
    let run = match &world {
        Type::Reference(_) => quote!(run_with_reference),
        _ => quote!(run_with_world),
    };
    quote! {
        #(#attributes)*
        #[::core::prelude::v1::test]
        #visibility fn #name() {
            #item
            ::ranks::Test::new(#ranks, ::core::concat!(::core::module_path!(), "::", #path))#timeout #on_failure.#run(#body);
        }
    }
}
