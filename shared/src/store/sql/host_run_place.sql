SELECT host_id FROM virtuozo.host_runs WHERE id = $1 AND state = 'queued'
