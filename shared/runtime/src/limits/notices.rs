//! Limits of notices: sending them by mail and webhook.

use super::secs;
use crate::BackoffPolicy;

limits! {
    /// Limits of notices.
    NoticeLimits {
        /// How long sending may take.
        send = secs(540);
        /// How long a process that stops waits for what it sends.
        farewell = secs(6);
        /// The pauses between attempts: never the same for all that failed together.
        attempts (BackoffPolicy) = BackoffPolicy::doubling(secs(30), secs(3600)).with_jitter(0.2);
        /// The pause before an outcome is recorded again.
        record_pause = secs(1);
        /// How long a mail server may take to be reached and to greet.
        connect = secs(20);
        /// How long a mail server or the receiver of a webhook may take for each answer.
        answer = secs(30);
        /// How long a mail server may take for the whole mail, into which many servers look before they answer.
        /// RFC 5321, 4.5.3.2.6, would give it ten minutes; who gives up before it has answered sends the mail again.
        content = secs(300);
        /// How long a mail server may take to part. It has said all that matters.
        quit = secs(5);
    }
}
