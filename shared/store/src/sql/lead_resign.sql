DELETE FROM virtuozo_core.lead WHERE scheduler_id = $1
