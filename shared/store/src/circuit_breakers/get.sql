SELECT x.failed_probes, x.error, x.login_refused, s.max_attempts
  FROM virtuozo_core.circuit_breakers x CROSS JOIN virtuozo_core.settings s
 WHERE x.host_id = $1
