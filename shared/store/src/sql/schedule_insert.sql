INSERT INTO virtuozo_core.schedules (id, name, cron, time_zone, enabled) VALUES ($1, $2, $3, $4, $5)
