//! Values of options that may also be taken away again.

use std::{fmt::Display, str::FromStr};

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// A value, or the word that takes it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice<T>(pub(crate) Option<T>);

/// A parser for `T` or the word `site`, for values that the site's setting stands in for.
pub(crate) fn or_site<T: FromStr<Err: Display>>(text: &str) -> Result<Choice<T>, String> {
    or("site", text)
}

/// A parser for `T` or the word `none`.
pub(crate) fn or_none<T: FromStr<Err: Display>>(text: &str) -> Result<Choice<T>, String> {
    or("none", text)
}

fn or<T: FromStr<Err: Display>>(word: &str, text: &str) -> Result<Choice<T>, String> {
    if text == word {
        return Ok(Choice(None));
    }
    match text.parse() {
        Ok(value) => Ok(Choice(Some(value))),
        Err(error) => Err(format!("{error}, nor '{word}'")),
    }
}

/// A parser for one of the words of an enum, which it also shows in help and errors.
pub(crate) fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

/// A cap on guests in work, in words.
pub(crate) fn at_most(guests: Option<i32>) -> String {
    match guests {
        Some(1) => "1 guest in work at most".to_owned(),
        Some(n) => format!("{n} guests in work at most"),
        None => "as many guests in work as their hosts permit".to_owned(),
    }
}

/// Puts what was given in the place of what was there.
pub(crate) fn change<T>(place: &mut Option<T>, given: Option<Choice<T>>) {
    if let Some(Choice(value)) = given {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use virtuozo_model::Mode;

    use super::*;

    #[test]
    fn a_value_is_set_taken_away_or_left_alone() {
        let mut mode = Some(Mode::Hot);
        change(&mut mode, None);
        assert_eq!(mode, Some(Mode::Hot));
        change(&mut mode, Some(or_site("cold").unwrap()));
        assert_eq!(mode, Some(Mode::Cold));
        change(&mut mode, Some(or_site("site").unwrap()));
        assert_eq!(mode, None);
        let error = or_site::<Mode>("warm").unwrap_err();
        assert!(
            error.contains("hot, cold, auto") && error.contains("site"),
            "{error}"
        );
    }
}
