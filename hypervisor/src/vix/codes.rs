//! Converts VIX error codes to [`HypervisorError`]s: kind, class and advice for each.

use vix_sys::{VixError, code, describe};

use crate::{
    ErrorClass::{self, Elsewhere, Operator, Permanent, Retry},
    ErrorKind::{
        self, ConnectionLost, GuestInvalid, GuestNotFound, LibraryMissing, Login, NotSupported,
        Other, PowerState, SnapshotNotFound, Timeout, Unreachable,
    },
    HypervisorError,
};

/// Makes the error of a failed call. `what` says what was being done to what, for example
/// `host alpha: cannot power on [standard] web/web.vmx`; `text` is the library's own sentence, used
/// for codes that nobody documented.
pub(super) fn to_error(
    error: VixError,
    what: &str,
    text: impl FnOnce() -> String,
) -> HypervisorError {
    let code = code(error);
    let (kind, class, advice) = judge(code);
    let meaning = match describe(code) {
        Some(info) => info.meaning.to_owned(),
        None => text(),
    };
    let meaning = meaning.trim_end_matches('.');
    let mut message = format!("{what}: {meaning} (VIX error {code})");
    if !advice.is_empty() {
        message.push_str(". ");
        message.push_str(advice);
    }
    HypervisorError {
        code: Some(code),
        ..HypervisorError::new(kind, class, message)
    }
}

/// Kind, class and advice for a code. Codes that are not here may pass by themselves: retry.
fn judge(code: VixError) -> (ErrorKind, ErrorClass, &'static str) {
    match code {
        vix_sys::VIX_E_INVALID_ARG | vix_sys::VIX_E_INVALID_UTF8_STRING => (
            Other,
            Permanent,
            "A name or path of this guest is not accepted by the library",
        ),
        vix_sys::VIX_E_FILE_NOT_FOUND => (
            GuestInvalid,
            Permanent,
            "A file of the guest is missing on the host",
        ),
        vix_sys::VIX_E_NOT_SUPPORTED | vix_sys::VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT => (
            NotSupported,
            Permanent,
            "Check the host's kind in its settings: this product cannot do it",
        ),
        vix_sys::VIX_E_DISK_FULL | vix_sys::VIX_E_SNAPSHOT_MIN_FREE_SPACE => {
            (Other, Operator, "Free space on the guest's datastore")
        }
        vix_sys::VIX_E_FILE_READ_ONLY
        | vix_sys::VIX_E_FILE_ACCESS_ERROR
        | vix_sys::VIX_E_SNAPSHOT_NOPERM => (
            Other,
            Operator,
            "Give the host's user the right to change the guest's files",
        ),
        vix_sys::VIX_E_FILE_ALREADY_LOCKED
        | vix_sys::VIX_E_SNAPSHOT_LOCKED
        | vix_sys::VIX_E_SNAPSHOT_DISKLOCKED => {
            (Other, Retry, "Another program works on the guest")
        }
        vix_sys::VIX_E_HOST_NOT_CONNECTED
        | vix_sys::VIX_E_VM_HOST_DISCONNECTED
        | vix_sys::VIX_E_HOST_CONNECTION_LOST
        | vix_sys::VIX_E_HOST_TCP_SOCKET_ERROR
        | vix_sys::VIX_E_HOST_TCP_CONN_LOST => (ConnectionLost, Retry, ""),
        vix_sys::VIX_E_NEED_KEY
        | vix_sys::VIX_E_AUTHENTICATION_FAIL
        | vix_sys::VIX_E_CRYPTO_NEED_PASSWORD
        | vix_sys::VIX_E_CRYPTO_BAD_PASSWORD => (
            GuestInvalid,
            Operator,
            "Encrypted guests cannot be backed up; decrypt the guest or ignore it",
        ),
        vix_sys::VIX_E_LICENSE => (
            NotSupported,
            Operator,
            "The host's licence does not allow changes through the API",
        ),
        vix_sys::VIX_E_NOT_FOUND | vix_sys::VIX_E_VM_NOT_FOUND => (
            GuestNotFound,
            Permanent,
            "Register the guest on its host again, or remove it from the configuration",
        ),
        vix_sys::VIX_E_CANNOT_READ_VM_CONFIG | vix_sys::VIX_E_INVALID_XML => (
            GuestInvalid,
            Permanent,
            "The guest's .vmx is broken; repair it or restore it from a backup",
        ),
        vix_sys::VIX_E_TEMPLATE_VM => (NotSupported, Permanent, "Ignore templates"),
        vix_sys::VIX_E_TIMEOUT_WAITING_FOR_TOOLS => (Timeout, Retry, ""),
        vix_sys::VIX_E_CANNOT_START_READ_ONLY_VM
        | vix_sys::VIX_E_VM_NOT_RUNNING
        | vix_sys::VIX_E_VM_IS_RUNNING
        | vix_sys::VIX_E_POWEROP_SCRIPTS_NOT_AVAILABLE
        | vix_sys::VIX_E_TOOLS_NOT_RUNNING => (PowerState, Retry, ""),
        vix_sys::VIX_E_VM_INSUFFICIENT_HOST_MEMORY => (Other, Operator, "Free memory on the host"),
        vix_sys::VIX_E_HOST_USER_PERMISSIONS => (
            Login,
            Operator,
            "Check user name and password of the host, and that the user may manage its guests",
        ),
        vix_sys::VIX_E_GUEST_USER_PERMISSIONS | vix_sys::VIX_E_CANNOT_AUTHENTICATE_WITH_GUEST => {
            (Login, Operator, "Check user name and password")
        }
        vix_sys::VIX_E_VMX_MSG_DIALOG_AND_NO_UI => (
            PowerState,
            Operator,
            "Answer the question in the host's console; msg.autoAnswer = \"TRUE\" in the .vmx \
             avoids questions",
        ),
        vix_sys::VIX_E_CANNOT_POWER_ON_VM => (
            Other,
            Operator,
            "See the guest's vmware.log on the host for the reason",
        ),
        vix_sys::VIX_E_SNAPSHOT_NOTFOUND => (SnapshotNotFound, Permanent, ""),
        vix_sys::VIX_E_SNAPSHOT_VERSION => (NotSupported, Permanent, "Back this guest up cold"),
        vix_sys::VIX_E_SNAPSHOT_CONFIG | vix_sys::VIX_E_SNAPSHOT_INCONSISTENT => (
            GuestInvalid,
            Permanent,
            "The guest's snapshot files do not fit each other; repair them on the host",
        ),
        vix_sys::VIX_E_SNAPSHOT_DUPLICATEDDISK => (
            GuestInvalid,
            Operator,
            "Two devices of the guest name the same disk; remove one of them",
        ),
        vix_sys::VIX_E_SNAPSHOT_INDEPENDENTDISK
        | vix_sys::VIX_E_SNAPSHOT_MEMORY_ON_INDEPENDENT_DISK => (
            NotSupported,
            Operator,
            "Independent disks take no part in snapshots; back this guest up cold, or change the \
             disk's mode",
        ),
        vix_sys::VIX_E_SNAPSHOT_NONUNIQUE_NAME => (
            Other,
            Operator,
            "Two snapshots have this name; remove one of them on the host",
        ),
        vix_sys::VIX_E_SNAPSHOT_MAXSNAPSHOTS | vix_sys::VIX_E_SNAPSHOT_HIERARCHY_TOODEEP => (
            Other,
            Operator,
            "Remove snapshots that are no longer needed on the host",
        ),
        vix_sys::VIX_E_CANNOT_CONNECT_TO_HOST
        | vix_sys::VIX_E_HOST_SERVER_NOT_FOUND
        | vix_sys::VIX_E_HOST_NETWORK_CONN_REFUSED => (
            Unreachable,
            Retry,
            "Check that the host is up, its management service runs and address and port are right",
        ),
        vix_sys::VIX_E_INVALID_HOSTNAME_SPECIFICATION => (
            Unreachable,
            Operator,
            "Write the address as https://host:port/sdk (VMware Server 2.0: port 8333)",
        ),
        16000..=16999 => (
            GuestInvalid,
            Permanent,
            "A disk of the guest is damaged or of a kind that cannot be used",
        ),
        // What to add to which file depends on the machine: `wrapper.rs`.
        vix_sys::VIX_E_WRAPPER_VERSION_NOT_FOUND => (LibraryMissing, Elsewhere, ""),
        22001..=22006 => (
            LibraryMissing,
            Elsewhere,
            "The VIX library is there, but its part for this product is not: install the product",
        ),
        30201 => (
            Unreachable,
            Operator,
            "The host's certificate cannot be verified",
        ),
        _ => (Other, Retry, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_happened_where_and_what_to_do() {
        let error = to_error(
            (7 << 32) | vix_sys::VIX_E_VM_NOT_FOUND,
            "host alpha: cannot open [standard] web/web.vmx",
            || unreachable!("documented"),
        );
        assert_eq!(error.kind, GuestNotFound);
        assert_eq!(error.code, Some(4000));
        assert_eq!(
            error.message,
            "host alpha: cannot open [standard] web/web.vmx: The virtual machine was not found (VIX error 4000). \
             Register the guest on its host again, or remove it from the configuration"
        );
    }

    #[test]
    fn an_undocumented_code_is_told_in_the_librarys_words_and_may_be_retried() {
        let error = to_error(64999, "host alpha: cannot connect", || {
            "Odd thing.".to_owned()
        });
        assert_eq!(
            error.message,
            "host alpha: cannot connect: Odd thing (VIX error 64999)"
        );
        assert_eq!((error.kind, error.class), (Other, Retry));
    }

    #[test]
    fn no_code_counts_as_success() {
        for info in vix_sys::ERRORS {
            let error = to_error(info.code, "x", String::new);
            assert_eq!(error.code, Some(info.code));
        }
    }
}
