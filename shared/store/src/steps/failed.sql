UPDATE virtuozo_core.steps
   SET state = 'failed', error = $4, error_type = $5, error_code = $6, ended_at = now()
 WHERE guest_run_id = $1 AND fence = $2 AND name = $3
