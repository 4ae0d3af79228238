//! What is written in the attribute: `4` or `ranks = 4`, `timeout = "10s"` and `on_failure = "continue"`.

use std::time::Duration;

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Result, Token};

const HELP: &str = "write #[ranks::test(4)] or #[ranks::test(ranks = 4, timeout = \"10s\")]";

/// The settings of one test.
pub(crate) struct Settings {
    pub(crate) ranks: Expr,
    pub(crate) timeout: Option<Duration>,
    pub(crate) on_failure: Option<OnFailure>,
}

/// What becomes of the other ranks when one fails.
#[derive(Clone, Copy)]
pub(crate) enum OnFailure {
    Kill,
    Continue,
}

impl Parse for Settings {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut ranks, mut timeout, mut on_failure) = (None, None, None);
        let mut may_be_unnamed = true;
        while !input.is_empty() {
            let name = match name(input)? {
                Some(name) => name,
                None if may_be_unnamed => Ident::new("ranks", input.span()),
                None => return Err(input.error(format!("a setting needs its name here: {HELP}"))),
            };
            may_be_unnamed = false;
            let is_new = match name.to_string().as_str() {
                "ranks" => ranks.replace(number(input.parse()?)?).is_none(),
                "timeout" => timeout.replace(time(&input.parse()?)?).is_none(),
                "on_failure" => on_failure.replace(consequence(&input.parse()?)?).is_none(),
                _ => return Err(Error::new(name.span(), format!("there is no setting `{name}`: {HELP}"))),
            };
            if !is_new {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let missing = || Error::new(Span::call_site(), format!("how many ranks? {HELP}"));
        Ok(Self { ranks: ranks.ok_or_else(missing)?, timeout, on_failure })
    }
}

/// The name of a setting with its equals sign, if one comes next.
fn name(input: ParseStream<'_>) -> Result<Option<Ident>> {
    let named = input.peek(Ident::peek_any) && input.peek2(Token![=]) && !input.peek2(Token![==]);
    if !named {
        return Ok(None);
    }
    let name = Ident::parse_any(input)?;
    input.parse::<Token![=]>()?;
    Ok(Some(name))
}

/// A number of ranks: any expression, since it may be a constant; of a literal the mistakes are known here.
fn number(ranks: Expr) -> Result<Expr> {
    let possible = match &ranks {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => {
            number.base10_parse::<usize>().is_ok_and(|count| count > 0)
        }
        Expr::Lit(_) | Expr::Unary(_) => false,
        _ => true,
    };
    let wrong = || Error::new_spanned(&ranks, format!("the number of ranks is 1 or more: {HELP}"));
    if possible { Ok(ranks) } else { Err(wrong()) }
}

/// A time such as `10s`.
fn time(text: &LitStr) -> Result<Duration> {
    let value = text.value();
    let (number, unit) = value.split_at(value.trim_end_matches(char::is_alphabetic).len());
    let unit = match unit {
        "ms" => Some(Duration::from_millis(1)),
        "s" => Some(Duration::from_secs(1)),
        "min" => Some(Duration::from_secs(60)),
        _ => None,
    };
    let time = unit.and_then(|unit| unit.checked_mul(number.trim_end().parse().ok()?));
    time.filter(|time| !time.is_zero()).ok_or_else(|| {
        Error::new(text.span(), format!("`{value}` is no time: write \"500ms\", \"10s\" or \"2min\""))
    })
}

/// What becomes of the others, by the name that the flag of `shmrun` has for it.
fn consequence(text: &LitStr) -> Result<OnFailure> {
    match text.value().as_str() {
        "kill" => Ok(OnFailure::Kill),
        "continue" => Ok(OnFailure::Continue),
        other => Err(Error::new(text.span(), format!("`{other}` is none of \"kill\" and \"continue\""))),
    }
}
