UPDATE virtuozo_core.host_gates x
   SET shut_until = now() + make_interval(secs => s.lease_secs)
  FROM virtuozo_core.settings s
 WHERE x.host_id = $1 AND x.probe_id = $2
RETURNING false AS cancel_requested, s.lease_secs
