//! Passwords from a prompt, stdin or a file; never from arguments, which everybody on the machine sees.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::Args;
use secrecy::SecretString;

use crate::error::usage;

/// The longest password that is taken.
const BYTES_MAX: u64 = 1024;

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
    /// One of the options was given.
    pub(crate) fn is_given(&self) -> bool {
        self.password_stdin || self.password_file.is_some()
    }

    /// The password, without the line break at its end.
    pub(crate) fn read(&self, prompt: &str) -> Result<SecretString> {
        let text = match &self.password_file {
            Some(path) => {
                let open = || format!("the password file {} cannot be read", path.display());
                one_line(File::open(path).with_context(open)?).with_context(open)?
            }
            None if self.password_stdin => one_line(io::stdin().lock())?,
            None if io::stdin().is_terminal() => rpassword::prompt_password(prompt)
                .context("no password could be read from the terminal")?,
            None => {
                return Err(usage(
                    "no terminal to ask for the password: give --password-stdin or --password-file FILE",
                ));
            }
        };
        if text.is_empty() {
            return Err(usage("the password is empty"));
        }
        Ok(text.into())
    }
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
