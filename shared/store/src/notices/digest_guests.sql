-- All guests, what became of their last run, and of those that are to be backed up how fresh their newest
-- restore point is.
SELECT h.name || '/' || g.name AS name, g.configured, g.ignored OR h.ignored AS ignored,
       g.state, g.state_reason, o.last_point_at,
       CASE WHEN o.exceeded THEN coalesce(o.last_point_at, g.created_at) + make_interval(secs => o.rpo_secs) END AS due_since,
       r.state AS last_run_state, r.error AS last_error,
       EXISTS (SELECT 1 FROM virtuozo_core.guest_runs x
                WHERE x.guest_id = g.id AND x.state IN ('waiting', 'admitted', 'running')) AS in_work
  FROM virtuozo_core.guests g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  LEFT JOIN virtuozo.rpo o ON o.id = g.id
  LEFT JOIN LATERAL (SELECT x.state, x.error FROM virtuozo_core.guest_runs x
                      WHERE x.guest_id = g.id ORDER BY x.created_at DESC LIMIT 1) r ON true
 ORDER BY h.name, g.name
