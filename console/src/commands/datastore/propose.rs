//! `virtuozo datastore propose`: where workers could read the datastores of a host.

use anyhow::Result;
use serde_json::json;
use virtuozo_model::{CandidateReason, DatastoreCandidate, DatastoreProposal, ProposalOutcome};
use virtuozo_services::{datastores, hosts, requests};

use crate::{
    context::{Context, Database},
    output,
    requests::{AskArgs, of_one},
};

pub(super) async fn run(
    context: &Context,
    db: &Database,
    host: &str,
    ask: &AskArgs,
    apply: bool,
) -> Result<()> {
    let host = hosts::by_name(&db.pool, host).await?;
    let (found, worker) = if ask.local {
        let (key_file, connectors) = (context.key_file(), context.connectors());
        let proposing =
            virtuozo_worker::propose_datastores(&db.pool, &key_file, &connectors, host.id);
        (proposing.await?, None)
    } else {
        let (asking, pool) = (ask.asking(context)?, db.pool.clone());
        let proposed = of_one(&host, |host, show| async move {
            requests::propose_datastores(&pool, &host, &asking, show).await
        });
        let proposed = proposed.await?;
        (proposed.answer, Some(proposed.worker))
    };
    let mapped = match apply {
        true => datastores::map_found(&db.pool, &host, &found.datastores).await?,
        false => Vec::new(),
    };
    let out = &context.out;
    if out.is_json() {
        return out.json(&json!({
            "ok": true,
            "datastores": found.datastores,
            "left_out": found.left_out,
            "silent_mounts": found.silent_mounts,
            "mapped": mapped,
            "worker": worker,
        }));
    }
    out.list(
        &found.datastores,
        &format!("host {} names no datastore", host.name),
        &[
            "Datastore",
            "On the host",
            "Mapped to",
            "Result",
            "Directory",
            "Evidence",
        ],
        |one| {
            vec![
                one.name.clone(),
                output::or_dash(one.host_path.as_ref()),
                output::or_dash(one.local_path.as_ref()),
                result(one).to_owned(),
                output::or_dash(one.directory.as_ref()),
                evidence(one),
            ]
        },
    )?;
    if found.left_out > 0 {
        out.line(&format!(
            "{} more datastores of the host were left out",
            found.left_out
        ))?;
    }
    for mount in &found.silent_mounts {
        out.line(&format!(
            "{mount} does not answer: nothing was looked for there"
        ))?;
    }
    for name in &mapped {
        out.line(&format!("the datastore {name} is mapped now"))?;
    }
    match worker {
        Some(worker) => out.line(&format!("found by worker {worker}")),
        None => Ok(()),
    }
}

fn result(one: &DatastoreProposal) -> &'static str {
    match one.outcome {
        ProposalOutcome::InPlace => "is read there already",
        ProposalOutcome::Found if one.local_path.is_some() => "FOUND ELSEWHERE",
        ProposalOutcome::Found => "found",
        ProposalOutcome::Ambiguous => "AMBIGUOUS",
        ProposalOutcome::Incomplete => "NOT ALL GUESTS FOUND",
        ProposalOutcome::NoGuests => "no guests to tell it by",
        ProposalOutcome::NotFound => "NOT FOUND",
    }
}

/// What was found in each directory.
fn evidence(one: &DatastoreProposal) -> String {
    let line = |candidate: &DatastoreCandidate| {
        format!(
            "{} of {} guests in {}, {}",
            candidate.guests_found,
            one.guests,
            candidate.directory,
            why(candidate.why)
        )
    };
    let lines: Vec<String> = one.candidates.iter().map(line).collect();
    match lines.is_empty() {
        true => "no such directory".to_owned(),
        false => lines.join("; "),
    }
}

fn why(reason: CandidateReason) -> &'static str {
    match reason {
        CandidateReason::Mapped => "where it is mapped to",
        CandidateReason::SamePath => "the host's own path",
        CandidateReason::SameShare => "where its share is mounted",
        CandidateReason::MountOfName => "a mount of its name",
        CandidateReason::BesideMapped => "beside a datastore that is mapped",
        CandidateReason::BelowMount => "below a mount, by its name",
    }
}
