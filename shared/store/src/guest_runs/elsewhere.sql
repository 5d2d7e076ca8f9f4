-- A guest, other than $2, that one of these guest runs backs up right now.
SELECT r.id, h.name || '/' || g.name
  FROM virtuozo_core.guest_runs r
  JOIN virtuozo_core.guests g ON g.id = r.guest_id
  JOIN virtuozo_core.hosts h ON h.id = r.host_id
 WHERE r.id = ANY ($1::uuid[]) AND r.guest_id <> $2 AND r.state = 'running' AND virtuozo_core.is_held(r.lease_until)
 LIMIT 1
