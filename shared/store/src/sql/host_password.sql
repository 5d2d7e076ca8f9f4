SELECT password_sealed FROM virtuozo_core.hosts WHERE id = $1
