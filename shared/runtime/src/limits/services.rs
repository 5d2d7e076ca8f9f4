//! Limits of the operations of a site: requests to workers, events that are followed.

use super::{millis, secs};

limits! {
    /// Limits of the operations of a site. How long the asker of a request waits is an option of the command.
    ServiceLimits {
        /// The longest pause between two looks at a request to a worker; its changes are notified.
        request_look_every = millis(500);
        /// How long a request is done after its asker gave it up, if nothing else has ended it: so the asker ends it
        /// itself.
        request_grace = secs(10);
        /// How long the end of a request may take to be written.
        request_cancel = secs(2);
        /// The pause before a look for further events.
        events_every = secs(1);
        /// The limit of a look for events; after it the database counts as away.
        events = secs(10);
    }
}
