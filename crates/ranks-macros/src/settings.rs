//! What is written in the attribute: `4` or `ranks = 4`, and `timeout = "10s"`.

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
}

impl Parse for Settings {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut ranks = None;
        let mut timeout = None;
        while !input.is_empty() {
            let name = name(input)?;
            match &name {
                None if ranks.is_none() && timeout.is_none() => ranks = Some(number(input.parse()?)?),
                Some(name) if name == "ranks" && ranks.is_none() => ranks = Some(number(input.parse()?)?),
                Some(name) if name == "timeout" && timeout.is_none() => {
                    timeout = Some(time(&input.parse()?)?)
                }
                Some(name) if name == "ranks" || name == "timeout" => {
                    return Err(Error::new(name.span(), format!("`{name}` is given twice")));
                }
                Some(name) => {
                    return Err(Error::new(name.span(), format!("there is no setting `{name}`: {HELP}")));
                }
                None => return Err(input.error(format!("a setting needs its name here: {HELP}"))),
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let missing = || Error::new(Span::call_site(), format!("how many ranks? {HELP}"));
        Ok(Self { ranks: ranks.ok_or_else(missing)?, timeout })
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
