DELETE FROM virtuozo_core.schedule_targets WHERE schedule_id = $1
