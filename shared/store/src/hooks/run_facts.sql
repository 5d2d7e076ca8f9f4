-- What a hook is told of its run, and of its guest run where it has one.
SELECT r.requested_by, s.name AS schedule, coalesce(r.trace_id, r.id) AS trace_id,
       h.name AS host, u.name AS guest, u.locator, g.mode, coalesce(g.trace_fence, 0) AS trace_fence,
       g.host_id, g.guest_id, p.repository || '/' || p.path AS point,
       CASE WHEN k.guest_run_id IS NULL THEN r.error ELSE g.error END AS error,
       c.guests, c.succeeded, c.failed,
       (SELECT count(*) FROM virtuozo_core.host_runs x WHERE x.run_id = r.id AND x.state = 'failed') AS hosts_failed,
       ARRAY(SELECT y.name || '/' || z.name
               FROM virtuozo_core.guest_runs x
               JOIN virtuozo_core.hosts y ON y.id = x.host_id
               JOIN virtuozo_core.guests z ON z.id = x.guest_id
              WHERE x.run_id = r.id AND x.state = 'failed' AND k.guest_run_id IS NULL
              ORDER BY 1 LIMIT 500) AS failed_guests
  FROM virtuozo_core.hook_runs k
  JOIN virtuozo_core.runs r ON r.id = k.run_id
  LEFT JOIN virtuozo_core.schedules s ON s.id = r.schedule_id
  LEFT JOIN virtuozo_core.guest_runs g ON g.id = k.guest_run_id
  LEFT JOIN virtuozo_core.hosts h ON h.id = g.host_id
  LEFT JOIN virtuozo_core.guests u ON u.id = g.guest_id
  LEFT JOIN virtuozo_core.restore_points p ON p.guest_run_id = g.id
 CROSS JOIN LATERAL (SELECT count(*) AS guests,
                            count(*) FILTER (WHERE x.state = 'succeeded') AS succeeded,
                            count(*) FILTER (WHERE x.state = 'failed') AS failed
                       FROM virtuozo_core.guest_runs x WHERE x.run_id = r.id) c
 WHERE k.id = $1
