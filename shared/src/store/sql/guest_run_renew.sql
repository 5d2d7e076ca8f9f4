UPDATE virtuozo.guest_runs g
   SET lease_until = now() + make_interval(secs => s.lease_secs)
  FROM virtuozo.settings s, virtuozo.runs r
 WHERE g.id = $1 AND g.fence = $2 AND g.state = 'running' AND r.id = g.run_id
RETURNING r.cancel_requested, s.lease_secs
