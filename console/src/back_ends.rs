//! The kinds of host and properties that the back ends of this program describe: checks for the store, options for
//! commands.

use std::collections::BTreeMap;

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches,
    builder::{PossibleValuesParser, TypedValueParser},
};
use virtuozo_hypervisor::{BACK_ENDS, HostSettings, Locator, Property, back_end_of};
use virtuozo_model::HostKind;
use virtuozo_services::hosts::{HostConfig, Rules};

/// The rules of this program's back ends, for the store.
pub(crate) struct KnownBackEnds;

impl Rules for KnownBackEnds {
    fn check_host(&self, host: &HostConfig) -> Result<(), String> {
        let back_end = back_end_of(host.kind.as_str()).ok_or_else(|| unknown_kind(&host.kind))?;
        back_end.check_host(&HostSettings {
            name: &host.name,
            kind: host.kind.as_str(),
            address: host.address.as_deref(),
            properties: &host.properties,
        })
    }

    fn check_locator(&self, kind: &HostKind, locator: &str) -> Result<(), String> {
        let back_end = back_end_of(kind.as_str()).ok_or_else(|| unknown_kind(kind))?;
        let locator = Locator::new(locator).map_err(|error| error.to_string())?;
        (back_end.refuse_locator)(&locator).map_or(Ok(()), Err)
    }
}

fn unknown_kind(kind: &HostKind) -> String {
    format!(
        "this program knows no hosts of the kind {kind}: {}",
        kind_names().join(", ")
    )
}

fn kind_names() -> Vec<&'static str> {
    let kinds = BACK_ENDS.iter().flat_map(|back_end| back_end.kinds);
    kinds.map(|kind| kind.word).collect()
}

/// A parser for kinds of host, which help and errors list.
pub(crate) fn kind() -> impl TypedValueParser<Value = HostKind> {
    PossibleValuesParser::new(kind_names()).try_map(|word| word.parse::<HostKind>())
}

/// The properties of all back ends, by name.
fn properties() -> BTreeMap<&'static str, &'static Property> {
    let all = BACK_ENDS.iter().flat_map(|back_end| back_end.properties);
    all.map(|property| (property.name, property)).collect()
}

/// A property's value for output: that of a secret is hidden.
pub(crate) fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    match properties().get(name) {
        Some(property) if property.is_secret => "(secret)",
        _ => value,
    }
}

/// The options of [`PropertyArgs`], by their ids.
pub(crate) fn property_options() -> Vec<&'static str> {
    let open = properties().into_values().filter(|one| !one.is_secret);
    open.map(|one| one.name).chain([ANY]).collect()
}

/// The name of the option that takes any property.
const ANY: &str = "property";

/// Options for the properties of a host: one for each that a back end describes, and `--property NAME=VALUE`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PropertyArgs {
    /// Values by name; `None` removes the property.
    given: BTreeMap<String, Option<String>>,
}

impl PropertyArgs {
    /// What is set, and what is removed.
    pub(crate) fn given(self) -> BTreeMap<String, Option<String>> {
        self.given
    }

    fn take(&mut self, name: &str, value: &str) {
        let value = (value != "none").then(|| value.to_owned());
        self.given.insert(name.to_owned(), value);
    }
}

impl Args for PropertyArgs {
    fn augment_args(mut command: Command) -> Command {
        for (name, property) in properties() {
            // Everybody on the machine sees the command line.
            if property.is_secret {
                continue;
            }
            command = command.arg(
                Arg::new(name)
                    .long(name)
                    .value_name(property.value.value_name())
                    .help(format!("{}, or none", property.help)),
            );
        }
        let any = Arg::new(ANY)
            .long(ANY)
            .value_name("NAME=VALUE")
            .action(ArgAction::Append)
            .value_parser(name_and_value)
            .help("Any property of its back end, by name; NAME=none takes it away");
        command.arg(any)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for PropertyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for name in properties().keys() {
            if let Ok(Some(value)) = matches.try_get_one::<String>(name) {
                self.take(name, value);
            }
        }
        for (name, value) in matches
            .get_many::<(String, String)>(ANY)
            .into_iter()
            .flatten()
        {
            self.take(name, value);
        }
        Ok(())
    }
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> BTreeMap<String, Option<String>> {
        let command = PropertyArgs::augment_args(Command::new("host").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).unwrap();
        PropertyArgs::from_arg_matches(&matches).unwrap().given()
    }

    #[test]
    fn a_described_property_has_an_option_and_any_can_be_given_by_name() {
        for arguments in [
            ["--config-dir", "/mnt/alpha"],
            ["--property", "config-dir=/mnt/alpha"],
        ] {
            let properties = parsed(&arguments);
            assert_eq!(properties.len(), 1);
            assert_eq!(properties["config-dir"].as_deref(), Some("/mnt/alpha"));
        }
        assert_eq!(parsed(&["--property", "other=none"])["other"], None);
    }

    #[test]
    fn a_kind_that_no_back_end_serves_is_refused_with_those_that_are() {
        let kind: HostKind = "mainframe".parse().unwrap();
        let refused = KnownBackEnds.check_locator(&kind, "x").unwrap_err();
        assert!(refused.contains("esxi"), "{refused}");
    }

    #[test]
    fn no_property_has_the_name_of_another_option() {
        for name in properties().keys() {
            let taken = [
                "address",
                "guest-threads",
                "ignored",
                "kind",
                "name",
                "password-file",
                "password-stdin",
                "property",
                "rename",
                "user",
            ];
            assert!(!taken.contains(name), "{name}");
        }
    }
}
