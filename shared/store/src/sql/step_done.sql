SELECT virtuozo_core.step_done($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
