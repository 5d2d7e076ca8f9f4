DELETE FROM virtuozo_core.schedules WHERE id = $1
