-- Schedulers and workers that were heard of in the last hour and have not said that they stopped.
SELECT id, kind, name, machine, pid, version, started_at, heartbeat_at,
       extract(epoch FROM now() - heartbeat_at)::bigint AS silent_secs
FROM virtuozo_core.workers
WHERE stopped_at IS NULL AND heartbeat_at > now() - interval '1 hour'
ORDER BY kind, name, started_at
