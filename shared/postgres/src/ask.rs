//! One question to the database, and what its answer says about the database.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use virtuozo_runtime::Availability;

use crate::StoreError;

/// Asks the database something, for as long as `limit`. How it answered is noted in `availability`, and an error is
/// counted there. `what` is what waits for the answer.
///
/// # Errors
/// What the database says, or [`StoreError::Silent`].
pub async fn ask<T>(
    availability: &Availability,
    what: &str,
    limit: Duration,
    question: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let asked_at = Instant::now();
    let answer = tokio::time::timeout(limit, question)
        .await
        .unwrap_or(Err(StoreError::Silent { limit }));
    match &answer {
        Ok(_) => availability.answered(asked_at),
        Err(error) => {
            count_error(availability, error);
            if error.is_unavailable() {
                availability.no_answer(what, asked_at, error);
            }
        }
    }
    answer
}

/// Counts an error of a statement, where it is handled. [`ask`] does so by itself.
pub fn count_error(availability: &Availability, error: &StoreError) {
    if error.is_unavailable() {
        availability.count_unanswered();
    } else {
        availability.count_refused();
    }
}

#[cfg(test)]
mod tests {
    use virtuozo_runtime::StatementErrors;

    use super::*;
    use crate::testing::TestDb;

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn an_answer_a_refusal_and_silence_are_told_apart_and_errors_are_counted_once() {
        let db = TestDb::new().await;
        let availability = Availability::default();
        let select = |sql: &'static str| {
            let pool = &db.pool;
            async move {
                sqlx::query(sql).execute(pool).await?;
                Ok::<_, StoreError>(())
            }
        };
        ask(&availability, "a test", LIMIT, select("SELECT 1"))
            .await
            .unwrap();
        assert_eq!(availability.statement_errors(), StatementErrors::default());

        let refused = ask(&availability, "a test", LIMIT, select("SELECT 1 / 0")).await;
        assert!(matches!(refused, Err(StoreError::Query(_))), "{refused:?}");
        assert_eq!(availability.unavailable_for(), None, "it has answered");

        let short = Duration::from_millis(50);
        let silent = ask(
            &availability,
            "a test",
            short,
            select("SELECT pg_sleep(60)"),
        )
        .await;
        assert!(
            matches!(&silent, Err(error) if error.is_unavailable()),
            "{silent:?}"
        );
        assert!(availability.unavailable_for().is_some());
        let counted = StatementErrors {
            refused: 1,
            unavailable: 1,
        };
        assert_eq!(availability.statement_errors(), counted);

        ask(&availability, "a test", LIMIT, select("SELECT 1"))
            .await
            .unwrap();
        assert_eq!(availability.unavailable_for(), None);
        assert_eq!(availability.statement_errors(), counted);
    }
}
