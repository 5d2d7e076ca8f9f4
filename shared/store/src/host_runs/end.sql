UPDATE virtuozo_core.host_runs
   SET state = $3, lease_until = NULL, owner_id = NULL, ended_at = now(), error = $4, error_class = $5
 WHERE id = $1 AND fence = $2 AND state = 'running'
RETURNING run_id, host_id
