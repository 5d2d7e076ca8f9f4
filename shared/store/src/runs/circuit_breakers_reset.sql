-- A new run tries afresh where earlier ones gave up.
SELECT virtuozo_core.probe_now(d.host_id)
  FROM (SELECT r.host_id
          FROM virtuozo_core.host_runs r
          JOIN virtuozo_core.circuit_breakers x ON x.host_id = r.host_id
         CROSS JOIN virtuozo_core.settings s
         WHERE r.run_id = $1 AND x.failed_probes >= s.max_attempts
         ORDER BY r.host_id) d
