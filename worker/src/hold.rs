//! Places where a test can make the process stand still, to kill it there.
//!
//! With `VIRTUOZO_HOLD_AT=copy.effect` and `VIRTUOZO_HOLD_FILE=/path`, a worker that comes to this place
//! writes the file and never goes on. Each step has `NAME.before` (nothing has been done), `NAME.effect`
//! (done, not recorded) and `NAME.recorded`; `snapshot.owed` and `power_off.owed` lie between the
//! obligation and the change, `copy.middle` after the first bytes of a copy.

use std::{sync::LazyLock, time::Duration};

struct Hold {
    at: String,
    file: String,
}

static HOLD: LazyLock<Option<Hold>> = LazyLock::new(|| {
    Some(Hold {
        at: std::env::var("VIRTUOZO_HOLD_AT").ok()?,
        file: std::env::var("VIRTUOZO_HOLD_FILE").ok()?,
    })
});

/// True if the process is to stand still here. The file has been written then.
fn reached(place: &str) -> bool {
    let Some(hold) = HOLD.as_ref() else {
        return false;
    };
    if hold.at != place {
        return false;
    }
    tracing::warn!(place, "held, as VIRTUOZO_HOLD_AT asks for");
    if let Err(error) = std::fs::write(&hold.file, place) {
        tracing::error!(file = hold.file, %error, "VIRTUOZO_HOLD_FILE cannot be written");
    }
    true
}

/// Stands still for ever if this is the place.
pub(crate) async fn at(place: &str) {
    if reached(place) {
        std::future::pending::<()>().await;
    }
}

/// As [`at`], on a thread of its own.
pub(crate) fn at_blocking(place: &str) {
    if reached(place) {
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
}
