-- All guests with their newest good restore point, and what became of their last run.
SELECT g.id, g.host_id, h.name || '/' || g.name AS name, g.configured, g.ignored OR h.ignored AS ignored,
       g.state, g.state_reason, g.created_at, p.taken_at AS last_point_at,
       r.state AS last_run_state, r.error AS last_error,
       EXISTS (SELECT 1 FROM virtuozo_core.guest_runs x
                WHERE x.guest_id = g.id AND x.state IN ('waiting', 'admitted', 'running')) AS in_work
  FROM virtuozo_core.guests g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  LEFT JOIN LATERAL (SELECT x.taken_at FROM virtuozo_core.restore_points x
                      WHERE x.guest_id = g.id AND x.state = 'published' ORDER BY x.taken_at DESC LIMIT 1) p ON true
  LEFT JOIN LATERAL (SELECT x.state, x.error FROM virtuozo_core.guest_runs x
                      WHERE x.guest_id = g.id ORDER BY x.created_at DESC LIMIT 1) r ON true
 ORDER BY h.name, g.name
