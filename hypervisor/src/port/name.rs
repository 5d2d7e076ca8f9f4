//! Names that a back end gives and gets again: text of its own, which nobody else looks into.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text cannot be a name of a back end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {why}")]
pub struct InvalidName {
    what: &'static str,
    why: String,
}

fn check(what: &'static str, text: &str, most_bytes: usize) -> Result<(), InvalidName> {
    let invalid = |why: String| Err(InvalidName { what, why });
    if text.is_empty() {
        return invalid("is empty".to_owned());
    }
    if text.len() > most_bytes {
        return invalid(format!(
            "has {} bytes, and {most_bytes} are the most",
            text.len()
        ));
    }
    if text.contains('\0') {
        return invalid("contains a NUL character".to_owned());
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $most_bytes:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The longest that is accepted, in bytes.
            pub const MAX_BYTES: usize = $most_bytes;

            /// Checks a text: it is not empty, not too long, and has no NUL characters.
            ///
            /// # Errors
            /// [`InvalidName`] with what is wrong.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                check($what, &text, Self::MAX_BYTES)?;
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name! {
    /// What a back end needs to find a guest on its host: a path, a reference, a UUID.
    Locator, "the locator of a guest", 2048
}

name! {
    /// A back end's mark of an instant of one disk. What changed since then can be asked for later.
    ChangeId, "a change id", 1024
}

/// A guest as its host lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GuestRef {
    /// Where the host finds it. It may change while the guest stays the same, where there is a UUID.
    pub locator: Locator,
    /// What stays the same when the guest is moved or renamed; none where the back end has nothing that is
    /// unique on its host.
    pub uuid: Option<Uuid>,
}

impl GuestRef {
    /// A guest that is known by its locator alone.
    pub fn at(locator: Locator) -> Self {
        Self {
            locator,
            uuid: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locator_is_any_text_that_is_there_and_has_an_end() {
        for text in ["[standard] web/web.x", "vm-57", "ü", &"x".repeat(2048)] {
            assert_eq!(Locator::new(text).unwrap().as_str(), text);
        }
        for (text, why) in [
            (String::new(), "empty"),
            ("x".repeat(2049), "2049 bytes"),
            ("a\0b".to_owned(), "NUL"),
        ] {
            let error = Locator::new(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_no_locator_is_refused_where_it_is_read() {
        let read: GuestRef = serde_json::from_str(r#"{"locator":"vm-57","uuid":null}"#).unwrap();
        assert_eq!(read, GuestRef::at(Locator::new("vm-57").unwrap()));
        assert!(serde_json::from_str::<GuestRef>(r#"{"locator":"","uuid":null}"#).is_err());
    }
}
