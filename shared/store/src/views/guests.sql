-- Guests with their newest good restore point and their open guest run, for `status`.
SELECT g.id, g.host_id, g.name, g.locator, g.configured, g.ignored, g.state, g.state_reason, g.power,
       p.taken_at AS last_point_at, coalesce(o.exceeded, false) AS rpo_exceeded,
       r.id AS guest_run_id, r.run_id, r.state AS run_state, r.step, r.mode,
       r.bytes_total, r.bytes_copied, r.progress_at,
       (SELECT max(s.started_at) FROM virtuozo_core.steps s WHERE s.guest_run_id = r.id AND s.name = 'copy') AS copy_started_at,
       (v.output ->> 'bytes_total')::bigint AS verify_bytes_total, (v.output ->> 'bytes_read')::bigint AS verify_bytes_read,
       v.started_at AS verify_started_at
FROM virtuozo_core.guests g
LEFT JOIN virtuozo.rpo o ON o.id = g.id
LEFT JOIN LATERAL (
    SELECT taken_at FROM virtuozo_core.restore_points
    WHERE guest_id = g.id AND state = 'published'
    ORDER BY taken_at DESC LIMIT 1
) p ON true
LEFT JOIN LATERAL (
    -- The one in work stands before those that wait.
    SELECT * FROM virtuozo_core.guest_runs
    WHERE guest_id = g.id AND state IN ('waiting', 'admitted', 'running')
    ORDER BY state = 'running' DESC, state = 'admitted' DESC, created_at LIMIT 1
) r ON true
LEFT JOIN virtuozo_core.steps v
       ON v.guest_run_id = r.id AND v.fence = r.fence AND v.name = 'verify' AND v.state = 'running' AND r.step = 'verify'
ORDER BY g.name, g.locator
