SELECT id FROM virtuozo.runs WHERE id = $1 AND state = 'running' FOR NO KEY UPDATE
