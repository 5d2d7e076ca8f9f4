SELECT state FROM virtuozo.runs WHERE id = $1
