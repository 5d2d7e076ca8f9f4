UPDATE virtuozo_core.hook_runs
   SET state = CASE WHEN $4::text IS NULL THEN 'succeeded' ELSE 'failed' END, lease_until = NULL, owner_id = NULL,
       ended_at = now(), exit_code = $3, error = $4
 WHERE id = $1 AND fence = $2 AND state = 'running'
RETURNING id
