UPDATE virtuozo_core.host_runs h
   SET lease_until = now() + make_interval(secs => s.lease_secs)
  FROM virtuozo_core.settings s, virtuozo_core.runs r
 WHERE h.id = $1 AND h.fence = $2 AND h.state = 'running' AND r.id = h.run_id
RETURNING r.cancel_requested, s.lease_secs
