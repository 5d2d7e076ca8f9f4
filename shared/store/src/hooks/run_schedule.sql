SELECT s.name FROM virtuozo_core.runs r JOIN virtuozo_core.schedules s ON s.id = r.schedule_id WHERE r.id = $1
