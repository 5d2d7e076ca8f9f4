//! Notifications to systemd about a service of `Type=notify`: ready, its status, stopping, and, while the service is
//! live, the watchdog's keep-alive.

use std::env;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use virtuozo_runtime::{Health, LIMITS};

/// Keep-alives that are sent within the watchdog's limit.
const KEEP_ALIVES_PER_LIMIT: u32 = 4;

/// Notifies systemd, if it started the process so, from now on until the process ends. A service counts as ready
/// while it still waits for its database; an error for which it ends has to be found before this call.
pub(crate) fn notify(health: &Health, stop: &CancellationToken) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    tokio::spawn(notify_until_end(health.clone(), stop.clone()));
}

async fn notify_until_end(health: Health, stop: CancellationToken) {
    let watchdog = sd_notify::watchdog_enabled();
    let pause = watchdog.map_or(LIMITS.console.systemd_status_every, |limit| {
        LIMITS
            .console
            .systemd_status_every
            .min(limit / KEEP_ALIVES_PER_LIMIT)
    });
    let (mut status, mut stopping) = (String::new(), false);
    send(&[NotifyState::Ready]);
    loop {
        let now = health
            .unready_reason()
            .unwrap_or_else(|| "works".to_owned());
        if now != status {
            send(&[NotifyState::Status(&now)]);
            status = now;
        }
        // Without the check of liveness, this task would keep a service alive whose work hangs.
        if watchdog.is_some() && health.liveness.standstill().is_none() {
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
    // systemd decides what to do with a service that sends nothing.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be notified");
    }
}
