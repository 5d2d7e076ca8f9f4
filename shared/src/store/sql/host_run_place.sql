SELECT host_id FROM virtuozo_core.host_runs WHERE id = $1 AND state = 'queued'
