//! The safe layer over the VIX library, inside the child process: handles that are released exactly
//! once, waits that end, and one path for every return code.

mod snapshots;

use std::{
    ffi::CString,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use vix_sys::{
    ConnectArgs, VIX_E_TIMEOUT_WAITING_FOR_TOOLS, VIX_E_UNFINISHED_JOB,
    VIX_E_WRAPPER_VERSION_NOT_FOUND, VIX_INVALID_HANDLE, VIX_OK, VIX_POWERSTATE_TOOLS_RUNNING,
    VIX_PROPERTY_VM_POWER_STATE, VIX_SERVICEPROVIDER_VMWARE_WORKSTATION, VIX_VMPOWEROP_FROM_GUEST,
    VIX_VMPOWEROP_NORMAL, Vix, VixError, VixFindItemType, VixHandle, VixServiceProvider, code,
};

pub(super) use self::snapshots::Snapshots;
use super::{child::recorded, codes::to_error, limits::LIMITS, wrapper};
use crate::{ErrorClass, ErrorKind, HypervisorError, Result};

/// How long a guest without Tools is given to show that it has them.
const TOOLS_LIMIT_SECS: i32 = 1;
/// Guests of a host; each is a path of up to some kilobytes.
const MAX_GUESTS: usize = 10_000;

/// An address where nobody listens.
const NOWHERE: &str = "https://127.0.0.1:1/sdk";

/// A handle that is released when it goes out of scope.
struct Handle {
    vix: &'static Vix,
    raw: VixHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.vix.release(self.raw);
    }
}

/// A loaded library and the host it is connected to.
pub(super) struct Session {
    vix: &'static Vix,
    /// Name of the host, for messages.
    label: String,
    host: Mutex<VixHandle>,
}

impl Session {
    /// Connects to a host.
    pub(super) fn connect(
        vix: &'static Vix,
        label: &str,
        provider: i32,
        address: Option<&str>,
        user: Option<&str>,
        password: Option<&SecretString>,
        limit: Duration,
    ) -> Result<Self> {
        let what = match address {
            Some(address) => format!("host {label}: cannot connect to {address}"),
            None => format!("host {label}: cannot connect to the product on this machine"),
        };
        let session = Self {
            vix,
            label: label.to_owned(),
            host: Mutex::new(VIX_INVALID_HANDLE),
        };
        session.begin(&what, provider, address, user, password, limit)?;
        Ok(session)
    }

    fn begin(
        &self,
        what: &str,
        provider: VixServiceProvider,
        address: Option<&str>,
        user: Option<&str>,
        password: Option<&SecretString>,
        limit: Duration,
    ) -> Result<()> {
        let vix = self.vix;
        let address = address.map(|text| c_string(text, what)).transpose()?;
        let user = user.map(|text| c_string(text, what)).transpose()?;
        let password = password
            .map(|text| c_string(text.expose_secret(), what))
            .transpose()?;
        let connect = || {
            vix.connect(&ConnectArgs {
                provider,
                host_name: address.as_deref(),
                host_port: 0,
                user_name: user.as_deref(),
                password: password.as_deref(),
                options: 0,
            })
        };
        let host = self
            .run("VixHost_Connect", connect, limit, what)
            .and_then(|job| match vix.job_handle(job.raw) {
                Ok(VIX_INVALID_HANDLE) => Err(no_part(what)),
                Ok(host) => Ok(host),
                Err(error) => Err(self.error(error, what)),
            })
            .map_err(|error| match error.code {
                Some(VIX_E_WRAPPER_VERSION_NOT_FOUND) => HypervisorError {
                    message: format!("{}. {}", error.message, wrapper::advice(provider)),
                    ..error
                },
                _ => error,
            })?;
        *self.lock() = host;
        Ok(())
    }

    /// Has the library take its part for a product, by a connection to nowhere.
    ///
    /// # Errors
    /// The part is missing, cannot be loaded or does not answer.
    pub(super) fn take_part(
        vix: &'static Vix,
        provider: VixServiceProvider,
        limit: Duration,
    ) -> Result<()> {
        let session = Self {
            vix,
            label: String::new(),
            host: Mutex::new(VIX_INVALID_HANDLE),
        };
        // The product on this machine has no address.
        let address = (provider != VIX_SERVICEPROVIDER_VMWARE_WORKSTATION).then_some(NOWHERE);
        let what = "cannot use the VIX library's part for this product";
        let outcome = session.begin(what, provider, address, None, None, limit);
        session.disconnect();
        match outcome {
            // No job, no end, or no part: the product itself would answer with a code of its own.
            Err(error) if error.code.is_none() || error.kind == ErrorKind::LibraryMissing => {
                Err(error)
            }
            // Whatever it says of an address where nobody is: it answered.
            _ => Ok(()),
        }
    }

    /// Ends the connection; the library destroys everything obtained through it.
    pub(super) fn disconnect(&self) {
        let host = std::mem::replace(&mut *self.lock(), VIX_INVALID_HANDLE);
        self.vix.disconnect(host);
    }

    /// The guests that the host lists, as it writes them.
    pub(super) fn find(&self, what: VixFindItemType, limit: Duration) -> Result<Vec<String>> {
        let doing = format!("host {}: cannot list the guests", self.label);
        let deadline = Instant::now() + limit;
        let host = self.host(&doing)?;
        let items = recorded("VixHost_FindItems", || {
            let (job, items) = self.vix.find_items(host, what);
            self.finish(job, limit, &doing).map(|_| items)
        })?;
        let mut found = Vec::new();
        // Items come from the library's own thread, so the last ones may still be under way.
        while let Some(item) = items.next_within(deadline.saturating_duration_since(Instant::now()))
        {
            if found.len() == MAX_GUESTS {
                return Err(HypervisorError::new(
                    ErrorKind::Other,
                    ErrorClass::Operator,
                    format!("{doing}: there are more than {MAX_GUESTS}"),
                ));
            }
            found.push(item.map_err(|error| self.error(error, &doing))?);
        }
        // Half a list would make guests look unregistered.
        if Instant::now() >= deadline {
            return Err(timed_out(&doing, limit));
        }
        Ok(found)
    }

    /// The bits of the guest's power state.
    pub(super) fn power_bits(&self, vmx_path: &str, limit: Duration) -> Result<i32> {
        let vm = self.open(vmx_path, limit)?;
        let what = self.doing("cannot read the power state of", vmx_path);
        self.vix
            .int_property(vm.raw, VIX_PROPERTY_VM_POWER_STATE)
            .map_err(|error| self.error(error, &what))
    }

    /// Whether Tools run in the guest, which has to be on.
    pub(super) fn tools_running(&self, vmx_path: &str, limit: Duration) -> Result<bool> {
        if self.power_bits(vmx_path, limit)? & VIX_POWERSTATE_TOOLS_RUNNING != 0 {
            return Ok(true);
        }
        // Some products set the bit only once somebody has waited for Tools.
        let vm = self.open(vmx_path, limit)?;
        let what = self.doing("cannot ask for VMware Tools in", vmx_path);
        let begin = || self.vix.wait_for_tools(vm.raw, TOOLS_LIMIT_SECS);
        match self.run("VixVM_WaitForToolsInGuest", begin, limit, &what) {
            Ok(_) => Ok(true),
            Err(error)
                if error.code == Some(VIX_E_TIMEOUT_WAITING_FOR_TOOLS)
                    || error.kind == ErrorKind::PowerState
                    || error.kind == ErrorKind::NotSupported =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Powers the guest on.
    pub(super) fn power_on(&self, vmx_path: &str, limit: Duration) -> Result<()> {
        let vm = self.open(vmx_path, limit)?;
        let what = self.doing("cannot power on", vmx_path);
        let begin = || self.vix.power_on(vm.raw, VIX_VMPOWEROP_NORMAL);
        self.run("VixVM_PowerOn", begin, limit, &what).map(drop)
    }

    /// Powers the guest off: by its own shutdown if `soft`, else by cutting the power.
    pub(super) fn power_off(&self, vmx_path: &str, soft: bool, limit: Duration) -> Result<()> {
        let vm = self.open(vmx_path, limit)?;
        let (options, doing) = if soft {
            (VIX_VMPOWEROP_FROM_GUEST, "cannot shut down")
        } else {
            (VIX_VMPOWEROP_NORMAL, "cannot power off")
        };
        let what = self.doing(doing, vmx_path);
        let begin = || self.vix.power_off(vm.raw, options);
        self.run("VixVM_PowerOff", begin, limit, &what).map(drop)
    }

    /// The library's sentence for success: it proves that the library answers.
    pub(super) fn greeting(vix: &Vix) -> String {
        vix.error_text(VIX_OK)
    }

    fn open(&self, vmx_path: &str, limit: Duration) -> Result<Handle> {
        let what = self.doing("cannot open", vmx_path);
        let path = c_string(vmx_path, &what)?;
        let host = self.host(&what)?;
        let job = self.run("VixVM_Open", || self.vix.open_vm(host, &path), limit, &what)?;
        let raw = self.result(&job, &what)?;
        Ok(Handle { vix: self.vix, raw })
    }

    /// Begins a job and waits for it, at most `limit`, and notes that.
    fn run(
        &self,
        name: &str,
        begin: impl FnOnce() -> VixHandle,
        limit: Duration,
        what: &str,
    ) -> Result<Handle> {
        recorded(name, || self.finish(begin(), limit, what))
    }

    /// Waits for a job, at most `limit`. Every asynchronous call ends here.
    fn finish(&self, job: VixHandle, limit: Duration, what: &str) -> Result<Handle> {
        let job = Handle {
            vix: self.vix,
            raw: job,
        };
        if job.raw == VIX_INVALID_HANDLE {
            return Err(self.nothing(what));
        }
        let deadline = Instant::now() + limit;
        let mut pauses = LIMITS.job_looks;
        loop {
            let complete = self.vix.is_complete(job.raw);
            if complete.map_err(|error| self.error(error, what))? {
                break;
            }
            // The wrapper's job for a provider that it could not load never counts as complete.
            if code(self.vix.job_error(job.raw)) != VIX_E_UNFINISHED_JOB {
                break;
            }
            if Instant::now() >= deadline {
                return Err(timed_out(what, limit));
            }
            thread::sleep(pauses.next());
        }
        match self.vix.job_error(job.raw) {
            VIX_OK => Ok(job),
            error => Err(self.error(error, what)),
        }
    }

    /// The handle that a finished job made. Success without a handle is a failure.
    fn result(&self, job: &Handle, what: &str) -> Result<VixHandle> {
        match self.vix.job_handle(job.raw) {
            Ok(VIX_INVALID_HANDLE) => Err(self.nothing(what)),
            Ok(handle) => Ok(handle),
            Err(error) => Err(self.error(error, what)),
        }
    }

    fn nothing(&self, what: &str) -> HypervisorError {
        HypervisorError::new(
            ErrorKind::Other,
            ErrorClass::Retry,
            format!("{what}: the VIX library reports success but gave nothing"),
        )
    }

    fn error(&self, error: VixError, what: &str) -> HypervisorError {
        to_error(error, what, || self.vix.error_text(error))
    }

    fn doing(&self, doing: &str, vmx_path: &str) -> String {
        format!("host {}: {doing} {vmx_path}", self.label)
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, VixHandle> {
        self.host.lock()
    }

    fn host(&self, what: &str) -> Result<VixHandle> {
        match *self.lock() {
            VIX_INVALID_HANDLE => Err(self.error(vix_sys::VIX_E_HOST_NOT_CONNECTED, what)),
            host => Ok(host),
        }
    }
}

/// VMware's wrapper library found its part for a product, but could not load it: that is no error to it.
fn no_part(what: &str) -> HypervisorError {
    HypervisorError::new(
        ErrorKind::LibraryMissing,
        ErrorClass::Elsewhere,
        format!(
            "{what}: the VIX library could not load its part for this product. Its log \
             /tmp/vmware-*/vmware-vixWrapper-{}.log says why; install what is missing there, or the product's VIX library again",
            std::process::id()
        ),
    )
}

fn timed_out(what: &str, limit: Duration) -> HypervisorError {
    HypervisorError::new(
        ErrorKind::Timeout,
        ErrorClass::Retry,
        format!("{what}: not done after {} s", limit.as_secs()),
    )
}

fn c_string(text: &str, what: &str) -> Result<CString> {
    CString::new(text).map_err(|_| {
        HypervisorError::new(
            ErrorKind::Other,
            ErrorClass::Operator,
            format!(
                "{what}: a name, path or password contains a NUL character; correct the settings"
            ),
        )
    })
}
