UPDATE virtuozo_core.hook_runs k
   SET lease_until = now() + make_interval(secs => s.lease_secs)
  FROM virtuozo_core.settings s
 WHERE k.id = $1 AND k.fence = $2 AND k.state = 'running'
RETURNING s.lease_secs
