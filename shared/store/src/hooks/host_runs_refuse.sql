UPDATE virtuozo_core.host_runs
   SET state = 'failed', ended_at = now(), error = $2, error_class = 'operator'
 WHERE run_id = $1 AND state = 'queued'
