//! Datastores: where workers read the hosts' storage.

use sqlx::PgPool;
use virtuozo_model::{Datastore, DatastoreProposal, Host, ProposalOutcome};
use virtuozo_store::{caps, datastores, hosts};

use crate::{error::ServiceError, names::host_id};

/// The datastores of a host, or all.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::NotFound`].
pub async fn list(pool: &PgPool, host: Option<&str>) -> Result<Vec<Datastore>, ServiceError> {
    let host = host_id(pool, host).await?;
    Ok(datastores::list(pool, host).await?)
}

/// Says in which directory workers read a datastore; none: at the path that its host gives. Returns the host.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::NotFound`] for an unknown host or datastore, or `Refused` for a directory that is no
/// absolute path.
pub async fn map(
    pool: &PgPool,
    host: &str,
    datastore: &str,
    directory: Option<&str>,
) -> Result<Host, ServiceError> {
    let host = hosts::by_name(pool, host).await?;
    match directory {
        Some(directory) => datastores::map(pool, host.id, datastore, directory).await?,
        None => datastores::unmap(pool, host.id, datastore).await?,
    }
    Ok(host)
}

/// Maps the datastores of which a search has found all guests in one other directory, in one transaction. A mapping that
/// there is stays. Returns the datastores that were mapped.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::Refused`] for a name or a directory that can be none; nothing is mapped then.
pub async fn map_found(
    pool: &PgPool,
    host: &Host,
    proposals: &[DatastoreProposal],
) -> Result<Vec<String>, ServiceError> {
    let mut tx = pool.begin().await?;
    let mut mapped = Vec::new();
    for proposal in proposals {
        if let (ProposalOutcome::Found, None, Some(directory)) =
            (proposal.outcome, &proposal.local_path, &proposal.directory)
            && datastores::map_new(&mut *tx, host.id, &proposal.name, directory).await?
        {
            mapped.push(proposal.name.clone());
        }
    }
    tx.commit().await?;
    Ok(mapped)
}

/// Says how many guests of a datastore may be in work at once; none: as many as their hosts permit. Returns the host.
///
/// # Errors
/// [`virtuozo_postgres::StoreError::NotFound`] for an unknown host or datastore, or `Refused` for a cap below 1.
pub async fn limit(
    pool: &PgPool,
    host: &str,
    datastore: &str,
    guests: Option<i32>,
) -> Result<Host, ServiceError> {
    let host = hosts::by_name(pool, host).await?;
    caps::set_datastore(pool, host.id, datastore, guests).await?;
    Ok(host)
}
