SELECT host_id FROM virtuozo_core.host_runs WHERE id = $1 AND state = 'queued' AND NOT virtuozo_core.is_paused(host_id)
