SELECT id FROM virtuozo_core.host_runs WHERE id = $1 AND fence = $2 AND state = 'running' FOR NO KEY UPDATE
