UPDATE virtuozo_core.guest_runs
   SET state = $3, lease_until = NULL, owner_id = NULL, ended_at = now(), error = $4, error_class = $5,
       attempts = attempts + CASE WHEN $6 THEN 1 ELSE 0 END
 WHERE id = $1 AND fence = $2 AND (state = 'running') IS TRUE
RETURNING run_id, host_id
