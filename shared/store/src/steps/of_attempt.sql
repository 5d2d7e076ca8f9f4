SELECT DISTINCT ON (name) name, output
  FROM virtuozo_core.steps
 WHERE guest_run_id = $1 AND fence >= $2 AND state = 'done'
 ORDER BY name, fence DESC
