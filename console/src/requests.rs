//! Commands that have a worker ask hosts: their options, the progress of their requests, and how they end.

use std::{collections::BTreeMap, future::Future, time::Duration};

use anyhow::Result;
use clap::Args;
use tokio::{sync::mpsc, task::JoinSet};
use virtuozo_model::Host;
use virtuozo_services::{
    ServiceError,
    requests::{Answered, Asking, RequestError},
};

use crate::{
    context::{Context, user_name},
    error::Interrupted,
    progress::{ProgressDisplay, ProgressLine},
};

/// Who connects to the host.
#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// Connect from this machine, instead of having a worker do it
    #[arg(long)]
    pub(crate) local: bool,
    /// How many seconds to wait for a worker's answer
    #[arg(long, value_name = "SECS", default_value_t = 300, conflicts_with = "local",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,
}

impl AskArgs {
    /// How the fleet is asked by these options, until a signal stops it.
    ///
    /// # Errors
    /// The handlers of signals cannot be installed.
    pub(crate) fn asking(&self, context: &Context) -> Result<Asking> {
        Ok(Asking {
            requested_by: format!("user {}", user_name()),
            limit: Duration::from_secs(self.timeout.into()),
            stop: context.catch_signals()?,
        })
    }
}

/// Where the progress of a request goes, with the host that it is about.
type Progress = mpsc::UnboundedSender<(String, String)>;

/// Asks one host, and shows on stderr how far that is.
///
/// # Errors
/// Nobody could ask it, it has not answered in time, or a signal stopped the waiting.
pub(crate) async fn of_one<T: Send + 'static, Answer>(
    host: &Host,
    ask: impl FnOnce(Host, ShowProgress) -> Answer,
) -> Result<Answered<T>>
where
    Answer: Future<Output = Result<Answered<T>, RequestError>> + Send + 'static,
{
    let (progress, changes) = mpsc::unbounded_channel();
    let asking = tokio::spawn(ask(host.clone(), show(host, &progress)));
    drop(progress);
    draw(changes).await;
    asking.await?.map_err(failed)
}

/// Asks all hosts at once, and shows on stderr how far each of them is.
pub(crate) async fn at_once<T: Send + 'static, Answer>(
    hosts: Vec<Host>,
    ask: impl Fn(Host, ShowProgress) -> Answer,
) -> Vec<(Host, T)>
where
    Answer: Future<Output = T> + Send + 'static,
{
    let (progress, changes) = mpsc::unbounded_channel();
    let mut asked = JoinSet::new();
    for host in hosts {
        let answer = ask(host.clone(), show(&host, &progress));
        asked.spawn(async move { (host, answer.await) });
    }
    drop(progress);
    draw(changes).await;
    asked.join_all().await
}

/// Shows the progress of all requests until the last one has ended.
async fn draw(mut changes: mpsc::UnboundedReceiver<(String, String)>) {
    let mut display = ProgressDisplay::on_stderr();
    let mut lines: BTreeMap<String, ProgressLine> = BTreeMap::new();
    while let Some((host, progress)) = changes.recv().await {
        let line = ProgressLine {
            subject: host.clone(),
            text: format!("{host}  {progress}"),
            summary: progress,
        };
        lines.insert(host, line);
        let all: Vec<ProgressLine> = lines.values().cloned().collect();
        display.draw(&all);
    }
    display.clear();
}

/// What hears how far a request is.
pub(crate) type ShowProgress = Box<dyn FnMut(&str) + Send>;

fn show(host: &Host, progress: &Progress) -> ShowProgress {
    let (host, progress) = (host.name.clone(), progress.clone());
    Box::new(move |text| {
        // Who shows it may have ended before the request.
        let _ = progress.send((host.clone(), text.to_owned()));
    })
}

/// How a command ends whose request has no answer.
pub(crate) fn failed(error: RequestError) -> anyhow::Error {
    match error {
        RequestError::Stopped(_) => Interrupted.into(),
        error => ServiceError::from(error).into(),
    }
}
