DELETE FROM virtuozo.schedule_targets WHERE schedule_id = $1
