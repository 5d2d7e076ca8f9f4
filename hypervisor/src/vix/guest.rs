//! A guest on a connected VMware host.

use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use async_trait::async_trait;
use vix_sys::{
    VIX_POWERSTATE_BLOCKED_ON_MSG, VIX_POWERSTATE_PAUSED, VIX_POWERSTATE_POWERED_OFF,
    VIX_POWERSTATE_POWERED_ON, VIX_POWERSTATE_POWERING_OFF, VIX_POWERSTATE_POWERING_ON,
    VIX_POWERSTATE_RESETTING, VIX_POWERSTATE_RESUMING, VIX_POWERSTATE_SUSPENDED,
    VIX_POWERSTATE_SUSPENDING, VIX_POWERSTATE_TOOLS_RUNNING,
};

use super::{
    child::Operation,
    connection::Connection,
    files::{GuestSeen, HostWork, ImageFoundBy},
    limits::LIMITS,
    session::Snapshots,
};
use crate::{
    ChangeId, ChangeIds, ErrorClass, ErrorKind, FreezeRequest, Guest, GuestFacts, GuestRef,
    HypervisorError, Image, ImageFiles, Instant, PowerOff, PowerState, Result,
};

/// A guest by its path. Each operation opens it anew, so that no stale handle is used.
pub(super) struct VixGuest {
    connection: Arc<Connection>,
    guest: GuestRef,
}

impl VixGuest {
    pub(super) fn new(connection: Arc<Connection>, guest: GuestRef) -> Self {
        Self { connection, guest }
    }

    fn vmx_path(&self) -> String {
        self.guest.locator.to_string()
    }

    async fn tools_running(&self) -> Result<bool> {
        let vmx_path = self.vmx_path();
        self.connection
            .flag(LIMITS.question, Operation::ToolsRunning { vmx_path })
            .await
    }

    /// Waits until the guest is in a power state.
    async fn wait_for(&self, wanted: PowerState, deadline: Clock) -> Result<()> {
        let mut pauses = LIMITS.power_looks;
        loop {
            let state = self.power_state().await?;
            if state == wanted {
                return Ok(());
            }
            if state == PowerState::BlockedOnQuestion {
                return Err(self.blocked());
            }
            if Clock::now() >= deadline {
                return Err(self.error(
                    ErrorKind::Timeout,
                    ErrorClass::Retry,
                    format_args!("did not become {wanted:?} in time; it is {state:?}"),
                ));
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Asks the guest's own system to shut down. Returns whether it did in time.
    async fn shut_down(&self, limit: Duration) -> Result<bool> {
        let deadline = Clock::now() + limit;
        let operation = Operation::PowerOff {
            vmx_path: self.vmx_path(),
            soft: true,
        };
        match self.connection.done(limit, operation).await {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::ConnectionLost => return Err(error),
            Err(error) => {
                tracing::debug!(guest = %self.guest.locator, %error, "guest did not shut down by itself");
                return Ok(false);
            }
        }
        match self.wait_for(PowerState::Off, deadline).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind == ErrorKind::ConnectionLost => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// The outcome of a power operation, judged by the state it should have led to: the library may
    /// report an error for what has happened, and success before it has.
    async fn settle(&self, outcome: Result<()>, wanted: PowerState, deadline: Clock) -> Result<()> {
        match outcome {
            Ok(()) => self.wait_for(wanted, deadline).await,
            Err(error) => match self.power_state().await {
                Ok(state) if state == wanted => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn blocked(&self) -> HypervisorError {
        self.error(
            ErrorKind::PowerState,
            ErrorClass::Operator,
            format_args!(
                "waits for the answer to a question; answer it in the host's console, or set \
                 msg.autoAnswer = \"TRUE\" in its .vmx"
            ),
        )
    }

    fn error(
        &self,
        kind: ErrorKind,
        class: ErrorClass,
        what: std::fmt::Arguments<'_>,
    ) -> HypervisorError {
        HypervisorError::new(
            kind,
            class,
            format!(
                "host {}: {} {what}",
                self.connection.target.name, self.guest.locator
            ),
        )
    }

    /// The names of the guest's snapshots from its own files, where the library tells only that there are `number`. It is
    /// asked for each: their files may be behind what it knows.
    async fn snapshots_from_files(&self, number: usize) -> Result<Vec<String>> {
        let work = HostWork::Snapshots {
            host: self.connection.host_files(),
            guest: self.guest.clone(),
        };
        let listed: Vec<String> = self.connection.read(&work).await?;
        let mut names = Vec::new();
        for name in listed {
            let is_path = name.contains(['/', '\\']);
            let operation = Operation::HasSnapshot {
                vmx_path: self.vmx_path(),
                name: name.clone(),
            };
            if is_path || self.connection.flag(LIMITS.question, operation).await? {
                names.push(name);
            }
        }
        if names.len() != number {
            return Err(self.error(
                ErrorKind::Other,
                ErrorClass::Retry,
                format_args!(
                    "has {number} snapshots, whose names the VIX library does not tell, and its list of snapshots names {}",
                    names.len()
                ),
            ));
        }
        Ok(names)
    }

    /// Power state, Tools and snapshots as the host reports them.
    async fn live_facts(&self) -> Result<(PowerState, bool, Vec<String>)> {
        let power = self.power_state().await?;
        let tools = power == PowerState::On && self.tools_running().await?;
        Ok((power, tools, self.snapshots().await?))
    }
}

#[async_trait]
impl Guest for VixGuest {
    async fn facts(&self) -> Result<GuestFacts> {
        let mut facts = GuestFacts {
            name: virtuozo_disk::vmware::host_path::stem(self.guest.locator.as_str()).to_owned(),
            power: PowerState::Off,
            tools_running: false,
            disks: Vec::new(),
            snapshots: Vec::new(),
            node: None,
            datastore: None,
            change_ids: Vec::new(),
            notes: Vec::new(),
            problem: None,
        };
        match self.live_facts().await {
            Ok((power, tools_running, snapshots)) => {
                facts.power = power;
                facts.tools_running = tools_running;
                facts.snapshots = snapshots;
            }
            Err(error) if is_about_the_guest(&error) => facts.problem = Some(error.into()),
            Err(error) => return Err(error),
        }
        let runs = facts.power != PowerState::Off && facts.power != PowerState::Suspended;
        let work = HostWork::Look {
            host: self.connection.host_files(),
            guest: self.guest.clone(),
            runs,
        };
        match self.connection.read::<GuestSeen>(&work).await {
            Ok(seen) => {
                facts.name = seen.name;
                facts.notes = seen.notes;
                facts.datastore = seen.datastore;
                facts.disks = seen.disks;
                facts.problem = facts.problem.or(seen.problem);
            }
            Err(error) if is_about_the_guest(&error) => {
                // Why the files cannot be read explains more than that the host cannot open them.
                facts.problem = Some(error.into());
            }
            Err(error) => return Err(error),
        }
        Ok(facts)
    }

    async fn power_state(&self) -> Result<PowerState> {
        let vmx_path = self.vmx_path();
        let bits = self
            .connection
            .number(LIMITS.question, Operation::PowerBits { vmx_path })
            .await?;
        power_state(bits).ok_or_else(|| {
            self.error(
                ErrorKind::Other,
                ErrorClass::Retry,
                format_args!("has an unknown power state ({bits:#x})"),
            )
        })
    }

    async fn power_on(&self, limit: Duration) -> Result<()> {
        let deadline = Clock::now() + limit;
        if self.power_state().await? == PowerState::On {
            return Ok(());
        }
        let vmx_path = self.vmx_path();
        let outcome = self
            .connection
            .done(limit, Operation::PowerOn { vmx_path })
            .await;
        self.settle(outcome, PowerState::On, deadline).await
    }

    async fn power_off(&self, how: PowerOff) -> Result<()> {
        match self.power_state().await? {
            PowerState::Off => return Ok(()),
            PowerState::Suspended => {
                return Err(self.error(
                    ErrorKind::PowerState,
                    ErrorClass::Permanent,
                    format_args!("is suspended, and stays so; it can be backed up as it is"),
                ));
            }
            PowerState::On => {
                if !how.soft_limit.is_zero()
                    && self.tools_running().await?
                    && self.shut_down(how.soft_limit).await?
                {
                    return Ok(());
                }
            }
            PowerState::BlockedOnQuestion => {}
        }
        let deadline = Clock::now() + how.hard_limit;
        let operation = Operation::PowerOff {
            vmx_path: self.vmx_path(),
            soft: false,
        };
        let outcome = self.connection.done(how.hard_limit, operation).await;
        self.settle(outcome, PowerState::Off, deadline).await
    }

    async fn snapshots(&self) -> Result<Vec<String>> {
        match self.connection.snapshots(self.vmx_path()).await? {
            Snapshots::Named(names) => Ok(names),
            Snapshots::Unnamed(number) => self.snapshots_from_files(number).await,
        }
    }

    async fn freeze(&self, request: &FreezeRequest) -> Result<()> {
        let name = &request.name;
        let existing = self.snapshots().await?;
        if existing.iter().any(|other| other == name) {
            return Err(self.error(
                ErrorKind::Other,
                ErrorClass::Permanent,
                format_args!("has a snapshot {name} already"),
            ));
        }
        if let Some(other) = existing.first()
            && !self.connection.capabilities().multiple_snapshots
        {
            return Err(self.error(
                ErrorKind::NotSupported,
                ErrorClass::Operator,
                format_args!(
                    "has the snapshot {other}, and this product keeps only one: ours would overwrite \
                     it; remove it, or back the guest up cold"
                ),
            ));
        }
        let operation = Operation::CreateSnapshot {
            vmx_path: self.vmx_path(),
            name: name.clone(),
            description: request.description.clone(),
        };
        self.connection.done(request.limit, operation).await
    }

    async fn release(&self, name: &str, limit: Duration) -> Result<bool> {
        let operation = Operation::RemoveSnapshot {
            vmx_path: self.vmx_path(),
            name: name.to_owned(),
        };
        match self.connection.flag(limit, operation).await {
            // It was removed between the two queries.
            Err(error) if error.kind == ErrorKind::SnapshotNotFound => Ok(false),
            outcome => outcome,
        }
    }

    async fn image(
        &self,
        at: &Instant,
        _since: &ChangeIds,
        ignored_disks: &[String],
    ) -> Result<Image> {
        if *at == Instant::PoweredOff {
            let state = self.power_state().await?;
            if !matches!(state, PowerState::Off | PowerState::Suspended) {
                return Err(self.error(
                    ErrorKind::PowerState,
                    ErrorClass::Retry,
                    format_args!("has to be off for a cold backup, but is {state:?}"),
                ));
            }
        }
        let target = &self.connection.target;
        let found_by = ImageFoundBy {
            host: self.connection.host_files(),
            guest: self.guest.clone(),
            at: at.clone(),
            ignored_disks: ignored_disks.to_vec(),
        };
        let found_by = serde_json::to_value(found_by).map_err(|error| {
            self.error(
                ErrorKind::GuestInvalid,
                ErrorClass::Permanent,
                format_args!("has paths that cannot be told another process: {error}"),
            )
        })?;
        Ok(Image::Files(ImageFiles {
            kind: target.kind.clone(),
            label: format!("{}, {}", target.name, self.guest.locator),
            found_by,
        }))
    }

    /// Nothing is kept: there are no change ids.
    async fn forget(&self, _: &ChangeId) -> Result<bool> {
        Ok(false)
    }
}

/// Whether an error says something about the guest itself, so that it belongs into its facts.
fn is_about_the_guest(error: &HypervisorError) -> bool {
    matches!(
        error.kind,
        ErrorKind::GuestNotFound
            | ErrorKind::GuestInvalid
            | ErrorKind::NotMapped
            | ErrorKind::NotAllowed
            | ErrorKind::NotSupported
    )
}

/// The one state that a set of bits means; none if no known bit is set.
fn power_state(bits: i32) -> Option<PowerState> {
    const RUNS: i32 = VIX_POWERSTATE_POWERED_ON
        | VIX_POWERSTATE_POWERING_ON
        | VIX_POWERSTATE_POWERING_OFF
        | VIX_POWERSTATE_SUSPENDING
        | VIX_POWERSTATE_RESUMING
        | VIX_POWERSTATE_RESETTING
        | VIX_POWERSTATE_PAUSED
        | VIX_POWERSTATE_TOOLS_RUNNING;
    if bits & VIX_POWERSTATE_BLOCKED_ON_MSG != 0 {
        Some(PowerState::BlockedOnQuestion)
    } else if bits & RUNS != 0 {
        Some(PowerState::On)
    } else if bits & VIX_POWERSTATE_SUSPENDED != 0 {
        Some(PowerState::Suspended)
    } else if bits & VIX_POWERSTATE_POWERED_OFF != 0 {
        Some(PowerState::Off)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_counts_as_off_only_when_nothing_else_goes_on() {
        for (bits, state) in [
            (VIX_POWERSTATE_POWERED_OFF, Some(PowerState::Off)),
            (
                VIX_POWERSTATE_POWERED_OFF | VIX_POWERSTATE_POWERING_ON,
                Some(PowerState::On),
            ),
            (
                VIX_POWERSTATE_POWERED_ON | VIX_POWERSTATE_TOOLS_RUNNING,
                Some(PowerState::On),
            ),
            (
                VIX_POWERSTATE_POWERED_ON | VIX_POWERSTATE_BLOCKED_ON_MSG,
                Some(PowerState::BlockedOnQuestion),
            ),
            (
                VIX_POWERSTATE_SUSPENDED | VIX_POWERSTATE_POWERED_OFF,
                Some(PowerState::Suspended),
            ),
            (0x4000, None),
            (0, None),
        ] {
            assert_eq!(power_state(bits), state, "{bits:#x}");
        }
    }
}
