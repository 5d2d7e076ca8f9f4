SELECT virtuozo_core.leaves_to_others($1, $2)
