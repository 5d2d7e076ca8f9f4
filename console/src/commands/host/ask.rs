//! `virtuozo host test` and `virtuozo host check`: what a host answers, to a worker of the fleet or to this machine.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;
use virtuozo_model::{Host, HostTested};
use virtuozo_services::{
    guests::{self, with_rpo},
    hosts,
    requests::{self, RequestError},
};

use super::super::guest;
use crate::{
    context::{Context, Database},
    error::AlreadyReported,
    requests::{AskArgs, at_once, failed, of_one},
};

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
        let (asking, pool) = (args.asking(context)?, db.pool.clone());
        let tested = of_one(&host, |host, show| async move {
            requests::test_host(&pool, &host, &asking, show).await
        });
        let tested = tested.await?;
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
        let checked = at_once(hosts, |host, show| {
            let (pool, asking) = (pool.clone(), asking.clone());
            async move { requests::check_host(&pool, &host, &asking, show).await }
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
