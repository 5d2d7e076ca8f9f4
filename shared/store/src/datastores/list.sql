SELECT d.host_id, h.name AS host_name, d.name, d.host_path, d.local_path, d.guest_threads, d.seen_at
  FROM virtuozo_core.datastores d
  JOIN virtuozo_core.hosts h ON h.id = d.host_id
 WHERE $1::uuid IS NULL OR d.host_id = $1
 ORDER BY h.name, d.name
