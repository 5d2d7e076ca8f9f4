-- What waits for a host that stays silent, or goes on refusing the login. What waits because somebody paused it goes on waiting.
UPDATE virtuozo_core.guest_runs g
   SET state = 'failed', ended_at = now(), error = $2, error_class = $3
  FROM virtuozo_core.guests u, virtuozo_core.hosts h
 WHERE u.id = g.guest_id AND h.id = g.host_id
   AND g.id IN (SELECT x.id FROM virtuozo_core.guest_runs x
                 WHERE x.host_id = $1 AND x.state = 'waiting' AND NOT virtuozo_core.is_paused($1)
                 ORDER BY x.id FOR NO KEY UPDATE)
RETURNING g.id, g.run_id, g.host_id, g.guest_id, h.name || '/' || u.name AS name, g.state, g.error,
          (SELECT coalesce(r.trace_id, r.id) FROM virtuozo_core.runs r WHERE r.id = g.run_id) AS trace_id
