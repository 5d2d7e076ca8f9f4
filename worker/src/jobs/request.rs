//! Request jobs: what somebody asks of a host and waits to hear.

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_model::{HostChecked, RequestKind, Settings};
use virtuozo_postgres::StoreError;
use virtuozo_queue::RequestJob;
use virtuozo_store::{
    guest_runs::Ending,
    hosts, leases,
    requests::{self, RequestLease},
    settings,
};

use super::{
    Job, OnHost, Work,
    decide::{Attempt, Subject, decide},
};
use crate::{
    context::Context,
    error::{StepError, Stop, check},
    inspection,
};

impl Job for RequestJob {
    type Lease = RequestLease;
    type Assignment = OnHost;

    const TAKING: &'static str = "the taking of a request";

    fn run_id(self) -> Option<Uuid> {
        Some(self.request_id)
    }

    async fn put_back(self, context: &Context) -> Result<(), StoreError> {
        leases::put_back::<RequestLease>(&*context.pool, self.request_id, context.incarnation).await
    }

    async fn assignment(self, context: &Context) -> Result<Option<OnHost>, StoreError> {
        let pool: &PgPool = &context.pool;
        let Some(host_id) = requests::host_of_waiting(pool, self.request_id).await? else {
            return Ok(None);
        };
        let settings = settings::get(pool).await?;
        Ok(Some(OnHost { host_id, settings }))
    }

    fn on_host(assignment: &OnHost) -> (Uuid, &Settings) {
        (assignment.host_id, &assignment.settings)
    }

    async fn take(self, context: &Context, _: &OnHost) -> Result<Option<RequestLease>, StoreError> {
        leases::take::<RequestLease>(&*context.pool, self.request_id, context.incarnation).await
    }

    async fn work(work: Work<Self>) {
        let request = work.row.request_id;
        match answer(&work).await {
            Ok(()) => {}
            Err(StepError::Stop(Stop::Fenced)) => {
                tracing::info!(%request, "nobody waits for the answer to a request any more");
            }
            Err(error) => tracing::warn!(%request, %error, "a request could not be concluded"),
        }
    }
}

/// Does what is asked, unless its lease ends or this worker stops before that, and writes down what came of it.
async fn answer(work: &Work<RequestJob>) -> Result<(), StepError> {
    let (context, row, pool) = (&work.context, &work.row, &work.context.pool);
    let reading = || hosts::by_id(&**pool, row.host_id);
    let host = context
        .while_unavailable("the host's configuration", reading)
        .await?;
    tracing::info!(host = host.name, kind = %row.kind, "request begins");
    let done = tokio::select! {
        done = ask_host(context, row) => done,
        end = work.lease.ended() => Err(Stop::from(end).into()),
        () = context.drain.cancelled() => Err(Stop::Draining.into()),
    };
    match done {
        Ok(answer) => {
            let writing = || requests::succeed(&**pool, row, &answer);
            let written = context.while_unavailable("the answer to a request", writing);
            Ok(check(written.await?)?)
        }
        Err(StepError::Stop(Stop::Fenced)) => Err(Stop::Fenced.into()),
        Err(error) => conclude(work, &host.name, &error).await,
    }
}

/// Over a connection of its own, and past the circuit breaker: who asks wants to know how the host is now.
async fn ask_host(context: &Context, row: &RequestLease) -> Result<serde_json::Value, StepError> {
    let (pool, key_file, connectors) = (&context.pool, &context.key_file, &context.connectors);
    let answer = match row.kind {
        RequestKind::HostTest => serde_json::to_value(
            inspection::test_host(pool, key_file, connectors, row.host_id).await?,
        ),
        RequestKind::DatastorePropose => serde_json::to_value(
            inspection::propose_datastores(pool, key_file, connectors, row.host_id).await?,
        ),
        RequestKind::HostCheck => {
            let checking = inspection::check_host(
                pool,
                &context.telemetry.health.availability,
                key_file,
                connectors,
                row.host_id,
            );
            let guests = checking.await?;
            serde_json::to_value(HostChecked {
                guests: guests.len(),
            })
        }
    };
    answer.map_err(|error| {
        StepError::permanent(format!(
            "the host's answer cannot be written as JSON: {error}"
        ))
    })
}

/// Records what becomes of a request that was not done. Nobody tries again but the one who asks.
async fn conclude(
    work: &Work<RequestJob>,
    host_name: &str,
    error: &StepError,
) -> Result<(), StepError> {
    let (context, row, pool) = (&work.context, &work.row, &work.context.pool);
    let mut message = error.to_string();
    let class = error.class();
    let job = RequestJob {
        request_id: row.request_id,
    };
    let leaves_to_others = context
        .missing_capabilities
        .note(job, None, error, &mut message)
        .await?;
    let attempt = Attempt {
        subject: Subject::Request(host_name),
        step: None,
        number: 1,
        limit: 1,
        keeps_steps: false,
        is_cancelled: false,
        leaves_to_others,
        bad_copies_before: 0,
        delay_secs: 0.0,
        message: &message,
    };
    let decision = decide(error, &attempt);
    let fence = context.while_unavailable("the end of a request", || async {
        match decision.ending {
            Ending::HandedOver { .. } => requests::hand_over(pool, row).await,
            _ => {
                let class = decision.failure.unwrap_or(class);
                requests::fail(&**pool, row, &message, class).await
            }
        }
    });
    check(fence.await?)?;
    decision.log(&attempt);
    Ok(())
}
