SELECT password_sealed FROM virtuozo.hosts WHERE id = $1
