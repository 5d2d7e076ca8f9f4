SELECT host_id FROM virtuozo_core.host_runs h
 WHERE id = $1 AND state = 'queued' AND virtuozo_core.host_run_obstacle(h) IS NULL
