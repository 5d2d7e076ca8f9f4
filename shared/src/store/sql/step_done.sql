WITH held AS (
    SELECT id FROM virtuozo_core.guest_runs WHERE id = $1 AND fence = $2 AND state = 'running' FOR NO KEY UPDATE
)
UPDATE virtuozo_core.steps s
   SET state = 'done', output = $4, ended_at = now()
  FROM held
 WHERE s.guest_run_id = held.id AND s.fence = $2 AND s.name = $3
RETURNING s.name
