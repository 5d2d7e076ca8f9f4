//! Errors with an exit code of their own, and the report of a failed command.

use std::{io, process::ExitCode};

use virtuozo_postgres::StoreError;
use virtuozo_services::ServiceError;

use crate::output::Output;

/// A wrong value or an unknown name. Exit code 2, as for errors of clap.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// There is no database, or it cannot be reached. Exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoDatabase(pub(crate) String);

/// Stopped by SIGINT, SIGTERM or SIGHUP. Exit code 130.
#[derive(Debug, thiserror::Error)]
#[error("stopped before it was done")]
pub(crate) struct Interrupted;

/// Exit code of a command that was stopped.
pub(crate) const INTERRUPTED: u8 = 130;

/// A dry run has printed what would change. Exit code 4.
#[derive(Debug, thiserror::Error)]
#[error("something would change")]
pub(crate) struct WouldChange;

/// The command has printed its result, which is a failure: no more is printed. Exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub(crate) struct AlreadyReported;

/// Shown at the end of `virtuozo --help`.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0    done
  1    failed
  2    wrong use: an unknown option, name or value
  3    no database, or it cannot be reached
  4    nothing was done, but would be: a dry run found differences
  130  stopped by Ctrl-C, SIGTERM or SIGHUP";

/// A wrong value or name, as an error of exit code 2.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Prints the error to stderr, unless the command has printed it, and returns the exit code.
pub(crate) fn report(out: &Output, failure: &anyhow::Error) -> ExitCode {
    // `virtuozo point list | head`: the reader has closed the pipe.
    if let Some(source) = failure.downcast_ref::<io::Error>()
        && source.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    if !failure.is::<AlreadyReported>() && !failure.is::<WouldChange>() {
        out.failure(&told(failure));
    }
    ExitCode::from(exit_code(failure))
}

/// An error with its causes, each said once: many errors name their cause themselves.
pub(crate) fn told(failure: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in failure.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text += &format!(": {cause}");
        }
    }
    text
}

fn exit_code(failure: &anyhow::Error) -> u8 {
    if failure.is::<Usage>() {
        return 2;
    }
    if failure.is::<NoDatabase>() {
        return 3;
    }
    if failure.is::<WouldChange>() {
        return 4;
    }
    if failure.is::<Interrupted>() {
        return INTERRUPTED;
    }
    match failure.downcast_ref::<ServiceError>() {
        Some(error) if error.is_refused() => return 2,
        Some(error) if error.is_unavailable() => return 3,
        _ => {}
    }
    match failure.downcast_ref() {
        Some(
            StoreError::NotFound { .. }
            | StoreError::Exists { .. }
            | StoreError::Refused(_)
            | StoreError::Url(_),
        ) => 2,
        Some(StoreError::Unavailable(_)) => 3,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_reference_lists_every_exit_code() {
        let page = include_str!("../../docs/reference/exit-codes.md");
        let codes = EXIT_CODES.lines().skip(1);
        let rows: Vec<_> = codes
            .map(|line| line.trim().split_once(' ').unwrap())
            .map(|(code, meaning)| format!("| {code} | {} |", meaning.trim()))
            .collect();
        let listed: Vec<_> = page
            .lines()
            .filter(|line| {
                line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_digit)
            })
            .collect();
        assert_eq!(listed, rows);
    }

    #[test]
    fn what_an_error_says_of_its_cause_is_not_said_again() {
        let closed = || StoreError::Unavailable(sqlx::Error::PoolClosed);
        let cause = sqlx::Error::PoolClosed.to_string();
        let plain = told(&closed().into());
        assert_eq!(plain.matches(&cause).count(), 1, "{plain}");
        let wrapped = Err::<(), _>(closed()).context("while adding").unwrap_err();
        assert_eq!(told(&wrapped), format!("while adding: {plain}"));
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code_also_below_a_context() {
        assert_eq!(exit_code(&usage("x")), 2);
        assert_eq!(exit_code(&NoDatabase("x".into()).into()), 3);
        assert_eq!(exit_code(&WouldChange.into()), 4);
        assert_eq!(exit_code(&Interrupted.into()), 130);
        assert_eq!(exit_code(&anyhow::anyhow!("x")), 1);
        let wrapped = Err::<(), _>(usage("x"))
            .context("while adding")
            .unwrap_err();
        assert_eq!(exit_code(&wrapped), 2);
        let unknown = StoreError::NotFound {
            what: "host",
            name: "alpha".into(),
        };
        assert_eq!(exit_code(&unknown.into()), 2);
    }
}
