DELETE FROM virtuozo_core.hosts WHERE id = $1
