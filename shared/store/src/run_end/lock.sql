SELECT id FROM virtuozo_core.runs WHERE id = $1 AND state = 'running' FOR NO KEY UPDATE
