//! What a connection to a stored host needs: address, credentials, properties, datastores.

use std::{path::PathBuf, time::Duration};

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_hypervisor::HostTarget;
use virtuozo_postgres::StoreError;
use virtuozo_secrets::{Key, Opens, SecretError};
use virtuozo_store::{datastores, hosts, settings};
use virtuozo_telemetry::Telemetry;

use crate::{error::StepError, retry::while_unavailable};

/// The stored configuration of a host cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The password cannot be decrypted.
    #[error("the password of host {host}: {source}")]
    Secret {
        /// The host's name.
        host: String,
        /// Why.
        source: SecretError,
    },
}

/// Reads what a connection to a stored host needs. The key file is read only if a password is stored.
///
/// # Errors
/// The host is unknown, a statement fails, or the key does not decrypt the password.
pub async fn host_target(
    pool: &PgPool,
    key_file: &std::path::Path,
    host_id: Uuid,
) -> Result<HostTarget, TargetError> {
    let host = hosts::by_id(pool, host_id).await?;
    let password = match hosts::sealed_password(pool, host_id).await? {
        Some(sealed) => {
            let opens = Opens {
                id: host_id,
                address: host.address.as_deref(),
                user: host.user_name.as_deref(),
            };
            let opened = Key::load(key_file).and_then(|key| key.open(opens, &sealed));
            Some(opened.map_err(|source| TargetError::Secret {
                host: host.name.clone(),
                source,
            })?)
        }
        None => None,
    };
    let datastores = datastores::list(pool, Some(host_id))
        .await?
        .into_iter()
        .filter_map(|d| Some((d.name, PathBuf::from(d.local_path?))))
        .collect();
    Ok(HostTarget {
        name: host.name,
        kind: host.kind.into(),
        address: host.address,
        user: host.user_name,
        password,
        properties: host.properties,
        datastores,
        file_silence: Duration::from_secs(
            u64::try_from(settings::get(pool).await?.file_silence_secs).unwrap_or_default(),
        ),
    })
}

/// Reads hosts for this worker's connections.
pub(crate) struct Targets {
    pub(crate) pool: PgPool,
    pub(crate) telemetry: Telemetry,
    pub(crate) key_file: PathBuf,
}

impl Targets {
    pub(crate) async fn of(&self, host_id: Uuid) -> Result<HostTarget, StepError> {
        // An unreachable database is waited for; another machine may have the right key.
        let target = while_unavailable(
            &self.telemetry.health.availability,
            "the host's configuration",
            || async {
                match host_target(&self.pool, &self.key_file, host_id).await {
                    Err(TargetError::Store(error)) => Err(error),
                    other => Ok(other),
                }
            },
        )
        .await?;
        target.map_err(|error| StepError::elsewhere(error.to_string()))
    }
}
