-- Guest runs that have ended and whose spans are not sent yet, those of ended runs too. $1: how many;
-- $2: those of runs that ended more than so many seconds ago are let be.
SELECT g.id, g.run_id, coalesce(r.trace_id, r.id) AS trace_id, g.host_run_id, h.name AS host, u.name AS guest,
       g.state, g.mode, g.attempts, g.crashes, g.fence, g.trace_fence, g.error, g.error_class, g.bytes_copied,
       greatest(g.created_at, g.trace_since, r.trace_since) AS began_at, g.ended_at
  FROM virtuozo_core.runs r
  JOIN virtuozo_core.guest_runs g ON g.run_id = r.id
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
 WHERE NOT r.traced AND (r.ended_at IS NULL OR r.ended_at > now() - make_interval(secs => $2))
   AND g.ended_at IS NOT NULL AND NOT g.traced
 LIMIT $1
