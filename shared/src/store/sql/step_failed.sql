UPDATE virtuozo_core.steps
   SET state = 'failed', error = $4, ended_at = now()
 WHERE guest_run_id = $1 AND fence = $2 AND name = $3
