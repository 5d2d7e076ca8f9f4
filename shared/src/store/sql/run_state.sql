SELECT state FROM virtuozo_core.runs WHERE id = $1
