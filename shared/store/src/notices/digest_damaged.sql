SELECT id, host_name || '/' || guest_name AS guest, taken_at, damage
  FROM virtuozo_core.restore_points
 WHERE state = 'damaged'
 ORDER BY taken_at
 LIMIT 100
