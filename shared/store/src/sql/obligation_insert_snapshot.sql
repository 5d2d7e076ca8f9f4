SELECT virtuozo_core.owe_snapshot($1, $2, $3, $4)
