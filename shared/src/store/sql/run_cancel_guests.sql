UPDATE virtuozo_core.guest_runs
   SET state = 'cancelled', ended_at = now(), error = 'cancelled before it began'
 WHERE run_id = $1 AND state IN ('waiting', 'admitted')
RETURNING id, host_id
