WITH held AS (
    UPDATE virtuozo_core.guest_runs SET step = $3, mode = coalesce($4, mode)
     WHERE id = $1 AND fence = $2 AND state = 'running'
 RETURNING id
)
INSERT INTO virtuozo_core.steps (guest_run_id, fence, name)
SELECT id, $2, $3 FROM held
ON CONFLICT (guest_run_id, fence, name)
DO UPDATE SET state = 'running', output = NULL, error = NULL, started_at = now(), ended_at = NULL
RETURNING name
