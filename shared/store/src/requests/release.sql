-- For another worker.
UPDATE virtuozo_core.requests SET state = 'waiting', lease_until = NULL, owner_id = NULL
 WHERE id = $1 AND fence = $2 AND state = 'running'
