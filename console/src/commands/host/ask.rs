//! `virtuozo host test` and `virtuozo host check`: what a host answers, to a worker of the fleet or to this machine.

use std::{collections::BTreeMap, future::Future, time::Duration};

use anyhow::Result;
use clap::Args;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};
use virtuozo_model::{Host, HostTested};
use virtuozo_services::{
    ServiceError,
    guests::{self, with_rpo},
    hosts,
    requests::{self, Asking, RequestError},
};

use super::super::guest;
use crate::{
    context::{Context, Database, user_name},
    error::{AlreadyReported, Interrupted},
    progress::{ProgressDisplay, ProgressLine},
};

/// Who connects to the host.
#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// Connect from this machine, instead of having a worker do it
    #[arg(long)]
    local: bool,
    /// How many seconds to wait for a worker's answer
    #[arg(long, value_name = "SECS", default_value_t = 300, conflicts_with = "local",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
}

impl AskArgs {
    fn asking(&self, context: &Context) -> Result<Asking> {
        Ok(Asking {
            requested_by: format!("user {}", user_name()),
            limit: Duration::from_secs(self.timeout.into()),
            stop: context.catch_signals()?,
        })
    }
}

/// Where the standing of a request is told, with the host that it is about.
type Progress = mpsc::UnboundedSender<(String, String)>;

pub(super) async fn test(
    context: &Context,
    db: &Database,
    name: &str,
    args: &AskArgs,
) -> Result<()> {
    let host = hosts::by_name(&db.pool, name).await?;
    let (answer, worker) = if args.local {
        let (key_file, connectors) = (context.key_file(), context.connectors());
        let tested = virtuozo_worker::test_host(&db.pool, &key_file, &connectors, host.id);
        (tested.await?, None)
    } else {
        let asking = args.asking(context)?;
        let pool = db.pool.clone();
        let mut all = at_once(vec![host.clone()], |host, progress| {
            let (pool, asking) = (pool.clone(), asking.clone());
            async move { requests::test_host(&pool, &host, &asking, tell(&host, &progress)).await }
        })
        .await;
        let (_, tested) = all.remove(0);
        let tested = tested.map_err(failed)?;
        (tested.answer, Some(tested.worker))
    };
    print_answer(context, &host, &answer, worker.as_deref())
}

fn print_answer(
    context: &Context,
    host: &Host,
    answer: &HostTested,
    worker: Option<&str>,
) -> Result<()> {
    let out = &context.out;
    if out.is_json() {
        return out.json(&json!({
            "ok": true,
            "back_end": answer.back_end,
            "guests": answer.guests,
            "datastores": answer.datastores,
            "warnings": answer.warnings,
            "worker": worker,
        }));
    }
    out.line(&answer.back_end)?;
    out.line(&format!(
        "host {} answers; {} guests in its inventory, {} datastores in its configuration",
        host.name,
        answer.guests,
        answer.datastores.len()
    ))?;
    for warning in &answer.warnings {
        out.line(&format!("warning: {warning}"))?;
    }
    match worker {
        Some(worker) => out.line(&format!("asked by worker {worker}")),
        None => Ok(()),
    }
}

pub(super) async fn check(
    context: &Context,
    db: &Database,
    name: Option<&str>,
    args: &AskArgs,
) -> Result<()> {
    let hosts = hosts::to_check(&db.pool, name).await?;
    let mut found = Vec::new();
    let mut workers = BTreeMap::new();
    let mut failures = BTreeMap::new();
    if args.local {
        let (key_file, connectors, pool) =
            (context.key_file(), context.connectors(), db.pool.clone());
        let checked = at_once(hosts, |host, _| {
            let (pool, key_file, connectors) = (pool.clone(), key_file.clone(), connectors.clone());
            let availability = context.health.availability.clone();
            async move {
                virtuozo_worker::check_host(&pool, &availability, &key_file, &connectors, host.id)
                    .await
            }
        });
        for (host, checked) in checked.await {
            match checked {
                Ok(guests) => found.extend(guests),
                Err(error) => {
                    failures.insert(host.name, error.to_string());
                }
            }
        }
    } else {
        let (asking, pool) = (args.asking(context)?, db.pool.clone());
        let checked = at_once(hosts, |host, progress| {
            let (pool, asking) = (pool.clone(), asking.clone());
            async move { requests::check_host(&pool, &host, &asking, tell(&host, &progress)).await }
        });
        for (host, checked) in checked.await {
            match checked {
                Ok(checked) => {
                    found.extend(guests::of_host(&db.pool, &host).await?);
                    workers.insert(host.name, checked.worker);
                }
                Err(error @ RequestError::Stopped(_)) => return Err(failed(error)),
                Err(error) => {
                    failures.insert(host.name, error.to_string());
                }
            }
        }
    }
    found.sort_by_cached_key(|guest| (guest.host_name.clone(), guest.name.clone()));
    if context.out.is_json() {
        let ok = failures.is_empty();
        context.out.json(
            &json!({ "ok": ok, "guests": found, "failures": failures, "workers": workers }),
        )?;
    } else {
        if !found.is_empty() || failures.is_empty() {
            guest::table(context, &with_rpo(&db.pool, found).await?)?;
        }
        for (host, worker) in &workers {
            context
                .out
                .line(&format!("host {host}: checked by worker {worker}"))?;
        }
        for (host, why) in &failures {
            context.out.failure(&format!("host {host}: {why}"));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(AlreadyReported.into())
    }
}

/// Asks all hosts at once, and shows on stderr how far each of them is.
async fn at_once<T: Send + 'static, Answer>(
    hosts: Vec<Host>,
    ask: impl Fn(Host, Progress) -> Answer,
) -> Vec<(Host, T)>
where
    Answer: Future<Output = T> + Send + 'static,
{
    let (progress, mut told) = mpsc::unbounded_channel();
    let mut asked = JoinSet::new();
    for host in hosts {
        let answer = ask(host.clone(), progress.clone());
        asked.spawn(async move { (host, answer.await) });
    }
    drop(progress);
    let mut display = ProgressDisplay::on_stderr();
    let mut lines: BTreeMap<String, ProgressLine> = BTreeMap::new();
    while let Some((host, standing)) = told.recv().await {
        let line = ProgressLine {
            subject: host.clone(),
            text: format!("{host}  {standing}"),
            summary: standing,
        };
        lines.insert(host, line);
        let all: Vec<ProgressLine> = lines.values().cloned().collect();
        display.draw(&all);
    }
    display.clear();
    asked.join_all().await
}

fn tell(host: &Host, progress: &Progress) -> impl FnMut(&str) + use<> {
    let (host, progress) = (host.name.clone(), progress.clone());
    move |standing| {
        // Who shows it may have ended before the request.
        let _ = progress.send((host.clone(), standing.to_owned()));
    }
}

fn failed(error: RequestError) -> anyhow::Error {
    match error {
        RequestError::Stopped(_) => Interrupted.into(),
        error => ServiceError::from(error).into(),
    }
}
