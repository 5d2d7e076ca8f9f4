UPDATE virtuozo_core.guest_runs SET mode = $3
 WHERE id = $1 AND fence = $2 AND state = 'running'
RETURNING id
