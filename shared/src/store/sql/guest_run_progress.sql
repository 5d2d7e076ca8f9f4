UPDATE virtuozo_core.guest_runs SET bytes_total = $3, bytes_copied = $4, progress_at = now()
 WHERE id = $1 AND fence = $2 AND state = 'running'
RETURNING id
