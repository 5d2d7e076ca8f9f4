//! What systemd is told about a service that it started as `Type=notify`: that it runs, what it waits for,
//! that it ends, and, as long as its loops turn, that it lives.

use std::{env, time::Duration};

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use virtuozo_runtime::{liveness, readiness};

/// How often is looked at what there is to tell.
const LOOK: Duration = Duration::from_secs(1);
/// So often at least within the time after which systemd takes a service for dead.
const LOOKS_PER_WATCHDOG: u32 = 4;

/// Tells from now on, if systemd wants to know. A service that waits for its database counts as started: it
/// has done what it can. One that lacks what waiting does not bring has to end before it is told here.
pub(crate) fn tell(stop: &CancellationToken) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    tokio::spawn(tell_on(stop.clone()));
}

async fn tell_on(stop: CancellationToken) {
    let watchdog = sd_notify::watchdog_enabled();
    let pause = watchdog.map_or(LOOK, |limit| LOOK.min(limit / LOOKS_PER_WATCHDOG));
    let (mut status, mut stopping) = (String::new(), false);
    send(&[NotifyState::Ready]);
    loop {
        let now = readiness::obstacle().unwrap_or_else(|| "works".to_owned());
        if now != status {
            send(&[NotifyState::Status(&now)]);
            status = now;
        }
        // A timer alone would vouch for a process whose work hangs.
        if watchdog.is_some() && liveness::standstill().is_none() {
            send(&[NotifyState::Watchdog]);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                send(&[NotifyState::Stopping]);
            }
        }
    }
}

fn send(states: &[NotifyState]) {
    // What follows from silence is systemd's to decide.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
