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

/// Sets or resets a setting if its option was given.
pub(crate) fn apply<T>(setting: &mut Option<T>, given: Option<Resettable<T>>) {
    if let Some(Resettable(value)) = given {
        *setting = value;
    }
}

#[cfg(test)]
mod tests {
    use virtuozo_model::Mode;

    use super::*;

    #[test]
    fn a_setting_is_set_reset_or_left_alone() {
        let mut mode = Some(Mode::Hot);
        apply(&mut mode, None);
        assert_eq!(mode, Some(Mode::Hot));
        apply(&mut mode, Some(or_site("cold").unwrap()));
        assert_eq!(mode, Some(Mode::Cold));
        apply(&mut mode, Some(or_site("site").unwrap()));
        assert_eq!(mode, None);
        let error = or_site::<Mode>("warm").unwrap_err();
        assert!(
            error.contains("hot, cold, auto") && error.contains("site"),
            "{error}"
        );
    }
}
