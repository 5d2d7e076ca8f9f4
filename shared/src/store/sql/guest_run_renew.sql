UPDATE virtuozo_core.guest_runs g
   SET lease_until = now() + make_interval(secs => s.lease_secs)
  FROM virtuozo_core.settings s, virtuozo_core.runs r
 WHERE g.id = $1 AND g.fence = $2 AND g.state = 'running' AND r.id = g.run_id
RETURNING r.cancel_requested OR g.cancel_requested AS cancel_requested, s.lease_secs
