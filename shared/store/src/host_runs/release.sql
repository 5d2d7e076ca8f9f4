UPDATE virtuozo_core.host_runs
   SET state = 'queued', lease_until = NULL, owner_id = NULL, run_after = now()
 WHERE id = $1 AND fence = $2 AND state = 'running'
RETURNING run_id
