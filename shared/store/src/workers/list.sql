SELECT id, kind, name, machine, pid, version, started_at, heartbeat_at,
       extract(epoch FROM now() - heartbeat_at)::float8 AS silent_secs,
       virtuozo_core.is_alive(heartbeat_at, stopped_at) AS is_alive, stopped_at, drain_requested
  FROM virtuozo_core.workers
 ORDER BY stopped_at IS NOT NULL, started_at DESC
