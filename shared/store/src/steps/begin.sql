WITH held AS (
    UPDATE virtuozo_core.guest_runs SET step = $3, mode = coalesce($4, mode)
     WHERE id = $1 AND fence = $2 AND (state = 'running') IS TRUE
 RETURNING id, owner_id
)
INSERT INTO virtuozo_core.steps (guest_run_id, fence, name, worker_id)
SELECT id, $2, $3, owner_id FROM held
ON CONFLICT (guest_run_id, fence, name)
DO UPDATE SET state = 'running', output = NULL, error = NULL, error_type = NULL, error_code = NULL, started_at = now(), ended_at = NULL
RETURNING name
