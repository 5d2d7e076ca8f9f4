INSERT INTO virtuozo_core.ticks (schedule_id, due_at, run_id)
VALUES ($1, $2, $3)
ON CONFLICT (schedule_id, due_at) DO NOTHING
RETURNING run_id
