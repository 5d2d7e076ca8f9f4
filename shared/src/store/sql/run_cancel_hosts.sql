UPDATE virtuozo_core.host_runs
   SET state = 'cancelled', ended_at = now(), error = 'cancelled before it began'
 WHERE run_id = $1 AND state = 'queued'
