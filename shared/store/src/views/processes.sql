-- Schedulers and workers that live, and those of the last day that went away without a word, unless one of the same
-- name has taken their place on their machine since.
SELECT w.id, w.kind, w.name, w.machine, w.pid, w.version, w.started_at, w.heartbeat_at,
       extract(epoch FROM now() - w.heartbeat_at)::bigint AS silent_secs,
       virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at) AS is_alive,
       EXISTS (SELECT 1 FROM virtuozo_core.lead l WHERE l.owner_id = w.id AND virtuozo_core.is_held(l.lease_until)) AS leads
  FROM virtuozo_core.workers w
 WHERE w.stopped_at IS NULL
   AND w.heartbeat_at > now() - interval '1 day'
   AND (virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at)
        OR NOT EXISTS (SELECT 1 FROM virtuozo_core.workers n
                        WHERE n.kind = w.kind AND n.name = w.name AND n.machine = w.machine
                          AND n.started_at > w.heartbeat_at))
 ORDER BY w.kind, w.name, w.started_at
