UPDATE virtuozo_core.host_runs
   SET state = 'queued', lease_until = NULL, owner_id = NULL, attempts = attempts + 1,
       run_after = now() + make_interval(secs => $3), error = $4, error_class = $5
 WHERE id = $1 AND fence = $2 AND state = 'running'
RETURNING run_id
