UPDATE virtuozo_core.runs
   SET state = 'failed', error = $2, ended_at = now()
 WHERE id = $1 AND state = 'running'
