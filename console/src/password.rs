//! Reads passwords from a prompt, stdin or a file; never from arguments, which everybody on the machine can see.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;
use secrecy::SecretString;

use crate::error::usage;

/// The longest password that is taken.
const BYTES_MAX: u64 = 1024;
/// The shortest passphrase that is taken.
const PASSPHRASE_CHARS_MIN: usize = 12;

/// Where a password comes from; without these options from a prompt.
#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// Read the password from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Read the password from this file
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// Whether one of the options was given.
    pub(crate) fn is_given(&self) -> bool {
        self.password_stdin || self.password_file.is_some()
    }

    /// The password, without the line break at its end.
    pub(crate) fn read(&self, prompt: &str) -> Result<SecretString> {
        let text = match &self.password_file {
            Some(path) => return in_file(path),
            None if self.password_stdin => one_line(io::stdin().lock())?,
            None if io::stdin().is_terminal() => rpassword::prompt_password(prompt)
                .context("no password could be read from the terminal")?,
            None => {
                return Err(usage(
                    "no terminal to ask for the password: give --password-stdin or --password-file FILE",
                ));
            }
        };
        not_empty(text)
    }
}

/// Where the passphrase of a file comes from; without the option from a prompt.
#[derive(Debug, Args)]
pub(crate) struct PassphraseArgs {
    /// Read the passphrase for the passwords from this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// Reads the passphrase of an existing file.
    pub(crate) fn read(&self) -> Result<SecretString> {
        self.text(|| rpassword::prompt_password("Passphrase of the file: "))
            .map(Into::into)
    }

    /// Reads a passphrase for a new file, from the prompt twice.
    pub(crate) fn choose(&self) -> Result<SecretString> {
        let text = self.text(|| {
            let text = rpassword::prompt_password("Passphrase for the passwords: ")?;
            if rpassword::prompt_password("Once more: ")? != text {
                return Err(io::Error::other("it is not the same as before"));
            }
            Ok(text)
        })?;
        if text.chars().count() < PASSPHRASE_CHARS_MIN {
            return Err(usage(format!(
                "the passphrase is too short: whoever has the file can guess without limit, so it \
                 has {PASSPHRASE_CHARS_MIN} characters at least"
            )));
        }
        Ok(text.into())
    }

    fn text(&self, ask: impl FnOnce() -> io::Result<String>) -> Result<String> {
        match &self.passphrase_file {
            Some(path) => of_file(path, "passphrase"),
            None if io::stdin().is_terminal() => {
                ask().context("no passphrase could be read from the terminal")
            }
            None => Err(usage(
                "no terminal to ask for the passphrase: give --passphrase-file FILE, or \
                 --without-passwords",
            )),
        }
    }
}

fn of_file(path: &Path, what: &str) -> Result<String> {
    let open = || format!("the {what} file {} cannot be read", path.display());
    one_line(File::open(path).with_context(open)?).with_context(open)
}

/// The password in a file, without the line break at its end.
pub(crate) fn in_file(path: &Path) -> Result<SecretString> {
    not_empty(of_file(path, "password")?)
}

fn not_empty(text: String) -> Result<SecretString> {
    if text.is_empty() {
        return Err(usage("the password is empty"));
    }
    Ok(text.into())
}

fn one_line(from: impl Read) -> Result<String> {
    let mut text = String::new();
    from.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(usage(format!(
            "the password has more than {BYTES_MAX} bytes"
        )));
    }
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    if text.contains(['\r', '\n', '\0']) {
        return Err(usage("the password has more than one line"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_without_its_end() {
        for given in ["pass word", "pass word\n", "pass word\r\n"] {
            assert_eq!(one_line(given.as_bytes()).unwrap(), "pass word");
        }
        assert_eq!(one_line(" x ".as_bytes()).unwrap(), " x ");
        assert!(one_line("two\nlines\n".as_bytes()).is_err());
        assert!(one_line([b'x'; 2000].as_slice()).is_err());
        assert!(one_line([0xff, 0xfe].as_slice()).is_err());
    }
}
