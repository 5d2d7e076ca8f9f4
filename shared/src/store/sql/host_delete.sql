DELETE FROM virtuozo.hosts WHERE id = $1
