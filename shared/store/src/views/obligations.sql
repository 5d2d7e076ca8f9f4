-- What still has to be undone on hosts. Outside of a running backup this should be empty.
SELECT o.id, o.kind, h.name AS host, g.name AS guest, o.snapshot_name, o.attempts, o.next_attempt_at,
       coalesce('its host ' || virtuozo_core.down_reason(o.host_id), o.last_error) AS last_error, o.created_at, gr.state = 'running' AS in_work
FROM virtuozo_core.obligations o
JOIN virtuozo_core.hosts h ON h.id = o.host_id
JOIN virtuozo_core.guests g ON g.id = o.guest_id
JOIN virtuozo_core.guest_runs gr ON gr.id = o.guest_run_id
ORDER BY o.created_at
