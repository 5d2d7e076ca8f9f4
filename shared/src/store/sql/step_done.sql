-- A step's output and the begin of the next, all or none: without the fence nothing happens.
WITH held AS (
    UPDATE virtuozo_core.guest_runs SET step = coalesce($5, step), mode = coalesce($6, mode)
     WHERE id = $1 AND fence = $2 AND state = 'running'
 RETURNING id, owner_id
), next AS (
    INSERT INTO virtuozo_core.steps (guest_run_id, fence, name, worker_id)
    SELECT id, $2, $5, owner_id FROM held WHERE $5 IS NOT NULL
    ON CONFLICT (guest_run_id, fence, name)
    DO UPDATE SET state = 'running', output = NULL, error = NULL, error_type = NULL, error_code = NULL, started_at = now(), ended_at = NULL
)
UPDATE virtuozo_core.steps s
   SET state = 'done', output = $4, ended_at = now()
  FROM held
 WHERE s.guest_run_id = held.id AND s.fence = $2 AND s.name = $3
RETURNING s.name
