-- Who works on it finds its lease gone.
UPDATE virtuozo_core.requests SET state = 'cancelled', lease_until = NULL, owner_id = NULL, ended_at = now()
 WHERE id = $1 AND state IN ('waiting', 'running')
