SELECT virtuozo_core.admit($1, $2)
