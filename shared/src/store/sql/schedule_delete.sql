DELETE FROM virtuozo.schedules WHERE id = $1
