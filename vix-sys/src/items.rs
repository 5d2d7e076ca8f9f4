//! What `VixHost_FindItems` finds, from the library's callback to a channel.
//!
//! The callback gets a number as client data, never a pointer: a library that calls once too often or
//! too late finds no receiver and does no harm.

use std::{
    collections::HashMap,
    ffi::c_void,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

use crate::{
    VIX_EVENTTYPE_FIND_ITEM, VIX_EVENTTYPE_JOB_COMPLETED, VIX_PROPERTY_FOUND_ITEM_LOCATION, Vix,
    VixError, VixEventType, VixHandle,
};

struct Search {
    /// `&'static Vix` as the callback outlives every borrow.
    vix: &'static Vix,
    found: Sender<Result<String, VixError>>,
}

static SEARCHES: Mutex<Option<(usize, HashMap<usize, Search>)>> = Mutex::new(None);

fn searches() -> MutexGuard<'static, Option<(usize, HashMap<usize, Search>)>> {
    SEARCHES.lock()
}

/// The items of one search, in the order in which the library reports them.
pub struct FoundItems {
    token: usize,
    found: Receiver<Result<String, VixError>>,
}

impl FoundItems {
    pub(crate) fn new(vix: &'static Vix) -> Self {
        let (sender, found) = channel();
        let mut guard = searches();
        let (last, table) = guard.get_or_insert_with(|| (0, HashMap::new()));
        *last += 1;
        let token = *last;
        table.insert(token, Search { vix, found: sender });
        Self { token, found }
    }

    pub(crate) fn client_data(&self) -> *mut c_void {
        self.token as *mut c_void
    }

    /// The next item: a path as the library names it, or the error of reading it. None after the
    /// last one (the job has completed), or when `limit` has passed without any.
    pub fn next_within(&self, limit: Duration) -> Option<Result<String, VixError>> {
        self.found.recv_timeout(limit).ok()
    }
}

impl Drop for FoundItems {
    fn drop(&mut self) {
        if let Some((_, table)) = searches().as_mut() {
            table.remove(&self.token);
        }
    }
}

/// The callback given to `VixHost_FindItems`.
pub(crate) unsafe extern "C" fn on_event(
    _job: VixHandle,
    event: VixEventType,
    more_info: VixHandle,
    client_data: *mut c_void,
) {
    let token = client_data as usize;
    match event {
        VIX_EVENTTYPE_FIND_ITEM => {
            let search = searches().as_ref().and_then(|(_, table)| {
                let search = table.get(&token)?;
                Some((search.vix, search.found.clone()))
            });
            if let Some((vix, found)) = search {
                // Nobody listens any more: the item is of no use.
                let _ =
                    found.send(vix.string_property(more_info, VIX_PROPERTY_FOUND_ITEM_LOCATION));
            }
        }
        VIX_EVENTTYPE_JOB_COMPLETED => {
            if let Some((_, table)) = searches().as_mut() {
                table.remove(&token);
            }
        }
        _ => {}
    }
}
