//! Follows work on files of a guest run to its end: lets it go on while the lease is certain, passes on what it tells and
//! asks, and records what it waits for.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use virtuozo_child_process::{Event, Running};
use virtuozo_runtime::LIMITS;
use virtuozo_store::file_waits;

use super::{GuestRun, permission::Permission};
use crate::{
    error::StepError,
    failpoints::Place,
    file_work::{FileNews, FileQuestion, FileWork, SpaceNeeded, StopPlace},
    files,
};

/// Whom the progress of work is told.
pub(super) trait Follower {
    /// There is news.
    fn heard(&self, news: FileNews);

    /// Time to record the progress.
    async fn report(&self);

    /// The work needs space.
    async fn reserve(&self, space: &SpaceNeeded) -> Result<(), StepError>;
}

/// Nobody: the work tells nothing.
struct Nobody;

impl Follower for Nobody {
    fn heard(&self, _: FileNews) {}

    async fn report(&self) {}

    async fn reserve(&self, _: &SpaceNeeded) -> Result<(), StepError> {
        Ok(())
    }
}

impl GuestRun {
    /// Has work on files done that tells and asks nothing.
    ///
    /// # Errors
    /// The work's own, or it was given up.
    pub(crate) async fn ask<A: DeserializeOwned>(&self, work: &FileWork) -> Result<A, StepError> {
        let running = files::begin(&self.context.files, work, self.file_silence(), None)?;
        self.follow(running, None, &Nobody).await
    }

    /// Waits for work to be done. It may be dropped at any time, which ends the work.
    ///
    /// # Errors
    /// The work's own, or it was given up.
    pub(super) async fn follow<A: DeserializeOwned>(
        &self,
        mut work: Running,
        permission: Option<&Permission>,
        follower: &impl Follower,
    ) -> Result<A, StepError> {
        let mut reported_at = Instant::now();
        let mut waits = Waits {
            run: self,
            is_told: false,
        };
        loop {
            match work.next().await? {
                Event::Look => {
                    if let Some(permission) = permission {
                        work.allow(permission.given().then_some(LIMITS.files.allowed));
                    }
                    waits.look(work.waits_for()).await;
                    if reported_at.elapsed() >= LIMITS.worker.progress_every {
                        follower.report().await;
                        reported_at = Instant::now();
                    }
                }
                Event::News(news) => follower.heard(understood(news)?),
                Event::Question { question, about } => match understood(about)? {
                    FileQuestion::Space(space) => {
                        let reserved = follower.reserve(&space).await;
                        work.answer(question, &reserved.is_ok());
                        if let Err(full) = reserved {
                            // What was begun is discarded there.
                            while !matches!(work.next().await?, Event::Done(_)) {}
                            return Err(full);
                        }
                    }
                    FileQuestion::At(place) => {
                        self.context.failpoints.at(failpoint(place)).await?;
                        work.answer(question, &());
                    }
                },
                Event::Done(answer) => {
                    waits.look(("", Duration::ZERO)).await;
                    return files::read(answer);
                }
            }
        }
    }

    /// The failpoints among these places that are ahead.
    pub(super) fn stops(&self, places: &[StopPlace]) -> Vec<StopPlace> {
        let failpoints = &self.context.failpoints;
        let ahead = |place: &&StopPlace| failpoints.is_ahead(failpoint(**place));
        places.iter().filter(ahead).copied().collect()
    }
}

/// What is recorded of a wait, so that people see it.
struct Waits<'a> {
    run: &'a GuestRun,
    is_told: bool,
}

impl Waits<'_> {
    /// Records a wait once it is long, and its end. An error is only logged, since nothing depends on the record.
    async fn look(&mut self, (what, lasts): (&str, Duration)) {
        let GuestRun { context, row, .. } = self.run;
        let is_long = lasts >= LIMITS.files.tell_wait_after;
        if is_long == self.is_told {
            return;
        }
        self.is_told = is_long;
        let recording = async {
            match is_long {
                true => {
                    tracing::warn!(
                        guest = self.run.guest.full_name(),
                        waits_secs = lasts.as_secs(),
                        "{what} do not answer"
                    );
                    file_waits::begin(&context.pool, row, what, lasts).await
                }
                false => file_waits::end(&context.pool, row).await,
            }
        };
        match timeout(LIMITS.worker.progress, recording).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a wait for files could not be recorded"),
            Err(_) => tracing::debug!("a wait for files could not be recorded in time"),
        }
    }
}

fn understood<T: DeserializeOwned>(value: Value) -> Result<T, StepError> {
    serde_json::from_value(value).map_err(|error| {
        StepError::retry(format!(
            "the process that reads and writes files is of another version: {error}"
        ))
    })
}

fn failpoint(place: StopPlace) -> Place {
    match place {
        StopPlace::CopyMiddle => Place::CopyMiddle,
        StopPlace::CopyDurable => Place::CopyDurable,
        StopPlace::VerifyMiddle => Place::VerifyMiddle,
    }
}
