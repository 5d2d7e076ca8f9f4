INSERT INTO virtuozo_core.runs (id, schedule_id, due_at, requested_by)
VALUES ($1, $2, $3, $4)
