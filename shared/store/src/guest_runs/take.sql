-- $1: the guest run, $2: who takes it. The one way into 'running'. An attempt that begins with it begins with its first
-- step.
WITH taken AS (
    UPDATE virtuozo_core.guest_runs g
       SET (fence, owner_id, lease_until) = (SELECT * FROM virtuozo_core.lease_taken(g.fence, $2, s.lease_secs)),
           attempt_fence = coalesce(g.attempt_fence, g.fence + 1),
           state = 'running',
           step = CASE WHEN g.attempt_fence IS NULL THEN 'validate' ELSE g.step END,
           started_at = coalesce(g.started_at, now())
      FROM virtuozo_core.settings s, virtuozo_core.runs r
     WHERE g.id = $1 AND r.id = g.run_id AND (g.state = 'admitted') IS TRUE
 RETURNING g.id, g.run_id, g.host_id, g.guest_id, g.owner_id, g.fence, g.attempt_fence, g.attempts,
           r.cancel_requested OR g.cancel_requested AS cancel_requested, s.lease_secs,
           coalesce(r.trace_id, r.id) AS trace_id, g.trace_fence
), begun AS (
    INSERT INTO virtuozo_core.steps (guest_run_id, fence, name, worker_id)
    SELECT id, fence, 'validate', $2 FROM taken WHERE attempt_fence = fence
)
SELECT * FROM taken
