//! What is decided, as a table: every kind of job, class, attempt and circumstance.

use std::path::PathBuf;

use uuid::Uuid;
use virtuozo_repository::SealedPoint;
use virtuozo_store::circuit_breakers::HostDown;

use super::*;
use crate::error::BadCopy;

const SUBJECTS: [Subject<'_>; 4] = [
    Subject::Guest("alpha/mail"),
    Subject::Host("alpha"),
    Subject::Obligation("alpha/mail", UndoAction::PowerOn),
    Subject::Obligation("alpha/mail", UndoAction::RemoveSnapshot("virtuozo-1-f1")),
];
const LIMIT: i32 = 3;
const DELAY_SECS: f64 = 60.0;

/// All circumstances of an attempt on a subject.
fn circumstances(subject: Subject<'static>) -> Vec<Attempt<'static>> {
    let mut all = Vec::new();
    for number in 1..=LIMIT + 1 {
        for flags in 0..16 {
            all.push(Attempt {
                subject,
                step: Some(StepName::Copy),
                number,
                limit: LIMIT,
                keeps_steps: flags & 1 > 0,
                is_cancelled: flags & 2 > 0,
                leaves_to_others: flags & 4 > 0,
                bad_copies_before: i64::from(flags & 8 > 0),
                delay_secs: DELAY_SECS,
                message: "the cause",
            });
        }
    }
    all
}

fn of_class(class: ErrorClass) -> StepError {
    StepError::Failed {
        location: None,
        class,
        message: "the cause".to_owned(),
    }
}

fn host_down(failed_probes: i32, login_refused: bool) -> StepError {
    StepError::HostDown(HostDown {
        failed_probes,
        max_attempts: LIMIT,
        error: "no route".to_owned(),
        login_refused,
    })
}

fn bad_copy() -> StepError {
    StepError::BadCopy(Box::new(BadCopy {
        repository: PathBuf::from("/srv/backup"),
        file: "mail.vmdk".to_owned(),
        what: "does not have its hash (at byte 65536)".to_owned(),
        problems: 2,
        sealed: SealedPoint {
            point_id: Uuid::nil(),
            partial_path: PathBuf::new(),
            path: PathBuf::new(),
            size_bytes: 0,
            source_bytes: 0,
            manifest_blake3: None,
            resumed_bytes: 0,
        },
    }))
}

/// What is expected of an error of a class, for the whole table.
fn expected(class: ErrorClass, attempt: &Attempt<'_>) -> Ending {
    let keep_steps = attempt.keeps_steps;
    let again = |keep_steps| Ending::Retry {
        delay_secs: DELAY_SECS,
        keep_steps,
    };
    match (attempt.subject, class) {
        (Subject::Obligation(..), _) => again(false),
        _ if attempt.leaves_to_others => Ending::HandedOver { keep_steps },
        (_, ErrorClass::Retry | ErrorClass::Elsewhere) if attempt.number < LIMIT => {
            again(keep_steps)
        }
        _ => Ending::Failed,
    }
}

#[test]
fn each_class_of_error_has_its_ending_in_every_circumstance() {
    for subject in SUBJECTS {
        for attempt in circumstances(subject) {
            for class in ErrorClass::ALL {
                let decision = decide(&of_class(class), &attempt);
                let ending = expected(class, &attempt);
                assert_eq!(decision.ending, ending, "{class:?} {attempt:?}");
                let handed_over = matches!(ending, Ending::HandedOver { .. });
                let failure = (!handed_over).then_some(class);
                assert_eq!(decision.failure, failure, "{class:?} {attempt:?}");
            }
        }
    }
}

#[test]
fn a_host_that_does_not_answer_is_waited_for_and_counts_as_no_attempt_until_it_is_given_up() {
    for subject in SUBJECTS {
        let is_endless = matches!(subject, Subject::Obligation(..));
        for attempt in circumstances(subject) {
            for probes in 1..=LIMIT {
                for login_refused in [false, true] {
                    let decision = decide(&host_down(probes, login_refused), &attempt);
                    let ending = if attempt.is_cancelled {
                        Ending::Cancelled
                    } else if probes < LIMIT || is_endless {
                        Ending::WaitsForHost
                    } else {
                        Ending::HostGivenUp
                    };
                    assert_eq!(decision.ending, ending, "{probes} {attempt:?}");
                    let class = match login_refused {
                        true => ErrorClass::Operator,
                        false => ErrorClass::Retry,
                    };
                    let failure = (!attempt.is_cancelled).then_some(class);
                    assert_eq!(decision.failure, failure, "{probes} {attempt:?}");
                }
            }
        }
    }
}

#[test]
fn a_cancelled_run_ends_as_cancelled_and_not_as_failed() {
    for subject in SUBJECTS {
        for attempt in circumstances(subject) {
            let decision = decide(&Stop::Cancelled.into(), &attempt);
            assert_eq!(decision.ending, Ending::Cancelled);
            assert_eq!(decision.failure, None);
            assert_eq!(decision.outcome, Outcome::Cancelled);
        }
    }
}

#[test]
fn a_worker_that_stops_hands_over_and_nothing_has_failed() {
    for attempt in circumstances(Subject::Guest("alpha/mail")) {
        let decision = decide(&Stop::Draining.into(), &attempt);
        let keep_steps = attempt.keeps_steps;
        assert_eq!(decision.ending, Ending::HandedOver { keep_steps });
        assert_eq!(decision.failure, None);
        assert_eq!(decision.outcome, Outcome::HandedOver);
    }
}

#[test]
fn a_bad_copy_is_made_again_once_whatever_the_limit_and_never_taken_over() {
    for attempt in circumstances(Subject::Guest("alpha/mail")) {
        let decision = decide(&bad_copy(), &attempt);
        let (ending, failure) = match attempt.bad_copies_before {
            0 => (
                Ending::Retry {
                    delay_secs: DELAY_SECS,
                    keep_steps: false,
                },
                ErrorClass::Retry,
            ),
            _ => (Ending::Failed, ErrorClass::Operator),
        };
        assert_eq!(decision.ending, ending, "{attempt:?}");
        assert_eq!(decision.failure, Some(failure), "{attempt:?}");
        let event = decision.event.unwrap();
        assert_eq!(event.severity(), Severity::Error);
    }
}

#[test]
fn a_bad_copy_names_the_repository_the_file_and_what_to_do() {
    let text = bad_copy().to_string();
    for part in ["/srv/backup", "mail.vmdk", "65536", "point verify --all"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn people_are_told_of_what_fails_and_the_log_is_as_loud_as_that() {
    for subject in SUBJECTS {
        for attempt in circumstances(subject) {
            let all = ErrorClass::ALL.map(of_class).into_iter();
            for error in all.chain([host_down(1, false), host_down(LIMIT, true)]) {
                let decision = decide(&error, &attempt);
                let is_told = decision.event.as_ref().map(NewEvent::severity);
                match (&decision.ending, subject) {
                    (Ending::Failed | Ending::HostGivenUp, _) => {
                        assert_eq!(is_told, Some(Severity::Error));
                        assert_eq!(decision.log, Loudness::Error);
                        assert_eq!(decision.outcome, Outcome::Failed);
                    }
                    // An undo job logs at this level from the third failure on.
                    (Ending::Retry { .. }, Subject::Obligation(..)) => {
                        assert_eq!(is_told.is_some(), attempt.number >= LOUD_FROM);
                        assert_eq!(decision.log, Loudness::Warn);
                    }
                    (Ending::Retry { .. }, _) => {
                        assert_eq!(is_told, Some(Severity::Warning));
                        assert_eq!(decision.log, Loudness::Warn);
                        assert_eq!(decision.outcome, Outcome::Retried);
                    }
                    (Ending::WaitsForHost, Subject::Obligation(..)) => assert_eq!(is_told, None),
                    _ => assert_eq!(decision.log, Loudness::Info),
                }
            }
        }
    }
}
