//! Values of options that can also reset a setting, and parsers for them.

use std::{fmt::Display, str::FromStr};

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// A new value for a setting; `None` resets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resettable<T>(pub(crate) Option<T>);

/// Parses a `T`, or `site` for the site's setting.
pub(crate) fn or_site<T: FromStr<Err: Display>>(text: &str) -> Result<Resettable<T>, String> {
    or("site", text)
}

/// Parses a `T`, or `none`.
pub(crate) fn or_none<T: FromStr<Err: Display>>(text: &str) -> Result<Resettable<T>, String> {
    or("none", text)
}

fn or<T: FromStr<Err: Display>>(word: &str, text: &str) -> Result<Resettable<T>, String> {
    if text == word {
        return Ok(Resettable(None));
    }
    match text.parse() {
        Ok(value) => Ok(Resettable(Some(value))),
        Err(error) => Err(format!("{error}, nor '{word}'")),
    }
}

/// A parser for the words of an enum, which help and errors list.
pub(crate) fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

/// What an operation is told: nothing, a new value, or to reset the setting.
pub(crate) fn given<T>(option: Option<Resettable<T>>) -> Option<Option<T>> {
    option.map(|Resettable(value)| value)
}

#[cfg(test)]
mod tests {
    use virtuozo_model::Mode;

    use super::*;

    #[test]
    fn a_setting_is_set_reset_or_left_alone() {
        assert_eq!(given(None::<Resettable<Mode>>), None);
        let cold = or_site("cold").unwrap();
        assert_eq!(given(Some(cold)), Some(Some(Mode::Cold)));
        let site = or_site::<Mode>("site").unwrap();
        assert_eq!(given(Some(site)), Some(None));
        let error = or_site::<Mode>("warm").unwrap_err();
        assert!(
            error.contains("hot, cold, auto") && error.contains("site"),
            "{error}"
        );
    }
}
