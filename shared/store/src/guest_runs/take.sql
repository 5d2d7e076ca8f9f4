-- The one way into 'running': raises the fence, so whatever an earlier owner still writes hits no row. An
-- attempt that begins with it begins with its first step.
WITH taken AS (
    UPDATE virtuozo_core.guest_runs g
       SET fence = g.fence + 1,
           attempt_fence = coalesce(g.attempt_fence, g.fence + 1),
           owner_id = $2,
           lease_until = now() + make_interval(secs => s.lease_secs),
           state = 'running',
           step = CASE WHEN g.attempt_fence IS NULL THEN $3 ELSE g.step END,
           started_at = coalesce(g.started_at, now())
      FROM virtuozo_core.settings s, virtuozo_core.runs r
     WHERE g.id = $1 AND r.id = g.run_id AND (g.state = 'admitted') IS TRUE
 RETURNING g.id, g.run_id, g.host_id, g.guest_id, g.owner_id, g.fence, g.attempt_fence, g.attempts,
           r.cancel_requested OR g.cancel_requested AS cancel_requested, s.lease_secs,
           coalesce(r.trace_id, r.id) AS trace_id, g.trace_fence
), begun AS (
    INSERT INTO virtuozo_core.steps (guest_run_id, fence, name, worker_id)
    SELECT id, fence, $3, $2 FROM taken WHERE attempt_fence = fence
)
SELECT * FROM taken
