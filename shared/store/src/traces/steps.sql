-- The steps of these guest runs, in the order in which they began, those left out that belong to an
-- earlier trace.
SELECT s.guest_run_id, s.fence, s.name, s.state, s.output, s.error, s.error_type, s.error_code,
       s.started_at, s.ended_at, w.name AS worker
  FROM virtuozo_core.steps s
  JOIN virtuozo_core.guest_runs g ON g.id = s.guest_run_id AND s.fence > g.trace_fence
  LEFT JOIN virtuozo_core.workers w ON w.id = s.worker_id
 WHERE s.guest_run_id = ANY ($1)
 ORDER BY s.guest_run_id, s.fence, s.started_at
