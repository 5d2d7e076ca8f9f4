-- Given to another process, because this one stops.
UPDATE virtuozo_core.hook_runs SET state = 'waiting', lease_until = NULL, owner_id = NULL
 WHERE id = $1 AND fence = $2 AND state = 'running'
