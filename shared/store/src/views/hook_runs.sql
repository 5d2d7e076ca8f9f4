-- The hooks of one run and its guests. $1: the run.
SELECT k.id, h.name AS host, u.name AS guest, k.moment, k.outcome, k.state, k.fence AS attempts, k.exit_code, k.error,
       k.created_at, k.started_at, k.ended_at, w.machine
  FROM virtuozo_core.hook_runs k
  LEFT JOIN virtuozo_core.guest_runs g ON g.id = k.guest_run_id
  LEFT JOIN virtuozo_core.guests u ON u.id = g.guest_id
  LEFT JOIN virtuozo_core.hosts h ON h.id = g.host_id
  LEFT JOIN virtuozo_core.workers w ON w.id = k.ran_by
 WHERE k.run_id = $1
 ORDER BY k.created_at, k.id
