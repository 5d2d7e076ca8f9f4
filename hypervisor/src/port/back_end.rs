//! What a back end says about itself: the kinds of host it serves, and what an administrator has to say about
//! such a host. Command line, export and checks are made from it.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::{GuestImage, Locator};
use crate::HypervisorError;

/// A kind of host, described. The kind itself is a word, everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostKindInfo {
    /// The word for it in commands, files and the database: small letters, digits and `_`.
    pub word: &'static str,
    /// What it is, for people.
    pub title: &'static str,
}

/// What the value of a property is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyType {
    /// A directory, absolute, as workers read it.
    Directory,
    /// Any text.
    Text,
    /// A whole number within bounds.
    Integer {
        /// The smallest.
        least: i64,
        /// The largest.
        most: i64,
    },
    /// `true` or `false`.
    Flag,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

impl PropertyType {
    /// How a value is called in the help of a command.
    pub fn value_name(self) -> &'static str {
        match self {
            Self::Directory => "DIR",
            Self::Text => "TEXT",
            Self::Integer { .. } => "N",
            Self::Flag => "true|false",
            Self::OneOf(_) => "WORD",
        }
    }

    /// Why a value is none of this type.
    fn refuse(self, value: &str) -> Option<String> {
        match self {
            Self::Directory if Path::new(value).is_absolute() => None,
            Self::Directory => Some("it has to be an absolute path".to_owned()),
            Self::Text => value.is_empty().then(|| "it is empty".to_owned()),
            Self::Integer { least, most } => match value.parse::<i64>() {
                Ok(number) if (least..=most).contains(&number) => None,
                _ => Some(format!("it has to be a number from {least} to {most}")),
            },
            Self::Flag if matches!(value, "true" | "false") => None,
            Self::Flag => Some("it has to be true or false".to_owned()),
            Self::OneOf(words) if words.contains(&value) => None,
            Self::OneOf(words) => Some(format!("it has to be one of {}", words.join(", "))),
        }
    }
}

/// Something that a back end has to know about a host, beside its address and login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Property {
    /// Its name: small letters, digits and `-`.
    pub name: &'static str,
    /// What a value is.
    pub value: PropertyType,
    /// What it is for, as the help of a command.
    pub help: &'static str,
    /// Its value is shown to nobody.
    pub is_secret: bool,
    /// A host cannot do without it.
    pub is_required: bool,
}

/// What an administrator says about a host.
#[derive(Debug, Clone, Copy)]
pub struct HostSettings<'a> {
    /// Its name.
    pub name: &'a str,
    /// The word for its kind.
    pub kind: &'a str,
    /// Connection string.
    pub address: Option<&'a str>,
    /// Values by the names of properties.
    pub properties: &'a BTreeMap<String, String>,
}

/// Opens an image by what it is found by.
pub type OpenImage = fn(&Value) -> Result<GuestImage, HypervisorError>;

/// A back end, described.
#[derive(Debug)]
pub struct BackEnd {
    /// The word for it, in lists and in the database.
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// The kinds of host that it serves.
    pub kinds: &'static [HostKindInfo],
    /// What else it has to know about a host.
    pub properties: &'static [Property],
    /// Why an address is none for a host of this name and kind; none: it is one.
    pub refuse_address: fn(&HostSettings<'_>) -> Option<String>,
    /// Why a locator cannot be that of a guest; none: it can.
    pub refuse_locator: fn(&Locator) -> Option<String>,
    /// Opens the files of an image by what its guest says they are found by ([`ImageFiles`](super::ImageFiles)), in any
    /// process of the machine. It blocks. None: its images are open from the beginning.
    pub open_image: Option<OpenImage>,
}

impl BackEnd {
    /// The property of this name.
    pub fn property(&self, name: &str) -> Option<&'static Property> {
        self.properties.iter().find(|one| one.name == name)
    }

    /// Holds what is said about a host against what this back end needs.
    ///
    /// # Errors
    /// The first thing that is wrong, as a sentence.
    pub fn check_host(&self, host: &HostSettings<'_>) -> Result<(), String> {
        if let Some(why) = (self.refuse_address)(host) {
            return Err(why);
        }
        for (name, value) in host.properties {
            let Some(property) = self.property(name) else {
                let known: Vec<&str> = self.properties.iter().map(|one| one.name).collect();
                return Err(format!(
                    "a host of the kind {} has no property {name:?}; it may have: {}",
                    host.kind,
                    known.join(", ")
                ));
            };
            if let Some(why) = property.value.refuse(value) {
                // A secret is not repeated.
                let shown = if property.is_secret {
                    String::new()
                } else {
                    format!(" {value:?}")
                };
                return Err(format!("the property {name} cannot be{shown}: {why}"));
            }
        }
        let missing = self
            .properties
            .iter()
            .find(|one| one.is_required && !host.properties.contains_key(one.name));
        match missing {
            Some(missing) => Err(format!(
                "a host of the kind {} needs the property {}: {}",
                host.kind, missing.name, missing.help
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE_UP: BackEnd = BackEnd {
        name: "made-up",
        title: "made up for this test",
        kinds: &[HostKindInfo {
            word: "made_up",
            title: "made up",
        }],
        properties: &[
            Property {
                name: "print",
                value: PropertyType::Text,
                help: "what the certificate looks like",
                is_secret: false,
                is_required: true,
            },
            Property {
                name: "token",
                value: PropertyType::Integer { least: 1, most: 9 },
                help: "a secret number",
                is_secret: true,
                is_required: false,
            },
        ],
        refuse_address: |host| host.address.is_none().then(|| "no address".to_owned()),
        refuse_locator: |_| None,
        open_image: None,
    };

    fn check(address: Option<&str>, properties: &[(&str, &str)]) -> Result<(), String> {
        let properties = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        MADE_UP.check_host(&HostSettings {
            name: "alpha",
            kind: "made_up",
            address,
            properties: &properties,
        })
    }

    #[test]
    fn a_host_is_held_against_the_description_of_its_back_end() {
        assert_eq!(check(Some("a"), &[("print", "x"), ("token", "7")]), Ok(()));
        for (address, properties, why) in [
            (None, &[("print", "x")][..], "no address"),
            (Some("a"), &[][..], "needs the property print"),
            (Some("a"), &[("print", "")][..], "empty"),
            (
                Some("a"),
                &[("print", "x"), ("colour", "red")][..],
                "it may have: print, token",
            ),
            (
                Some("a"),
                &[("print", "x"), ("token", "12")][..],
                "from 1 to 9",
            ),
        ] {
            let error = check(address, properties).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_secret_that_is_refused_is_not_repeated() {
        let error = check(Some("a"), &[("print", "x"), ("token", "s3cret")]).unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn values_are_checked_by_their_type() {
        for (value, good, bad) in [
            (PropertyType::Directory, "/mnt/a", "mnt/a"),
            (PropertyType::Flag, "true", "yes"),
            (PropertyType::OneOf(&["a", "b"]), "b", "c"),
            (PropertyType::Integer { least: 0, most: 5 }, "5", "6"),
            (PropertyType::Text, "x", ""),
        ] {
            assert_eq!(value.refuse(good), None);
            assert!(value.refuse(bad).is_some(), "{value:?}");
        }
    }
}
