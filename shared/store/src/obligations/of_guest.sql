SELECT o.id, o.kind, o.host_id, o.guest_id, o.guest_run_id, o.guest_run_fence AS fence, o.snapshot_name, o.attempts,
       coalesce(r.trace_id, r.id) AS trace_id, g.trace_fence
  FROM virtuozo_core.obligations o
  JOIN virtuozo_core.guest_runs g ON g.id = o.guest_run_id
  JOIN virtuozo_core.runs r ON r.id = g.run_id
 WHERE o.guest_id = $1
 ORDER BY o.created_at
