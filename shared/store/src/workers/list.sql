SELECT id, kind, name, machine, pid, version, started_at, heartbeat_at,
       extract(epoch FROM now() - heartbeat_at)::float8 AS silent_secs,
       virtuozo_core.is_alive(heartbeat_at, stopped_at) AS is_alive, stopped_at, drain_requested,
       coalesce((SELECT jsonb_agg(jsonb_build_object('kind', k.kind, 'is_served', k.is_served, 'found', k.found) ORDER BY k.kind)
                   FROM virtuozo_core.worker_kinds k WHERE k.worker_id = id), '[]') AS kinds,
       coalesce((SELECT jsonb_agg(jsonb_build_object('location', x.location, 'host', x.host, 'reason', x.reason, 'noted_at', x.noted_at)
                                  ORDER BY x.location, x.host)
                   FROM virtuozo_core.lacking_workers x WHERE x.worker_id = workers.id), '[]') AS lacks
  FROM virtuozo_core.workers
 ORDER BY stopped_at IS NOT NULL, started_at DESC
