SELECT g.id AS guest_id, g.host_id
  FROM virtuozo_core.guests g
 WHERE EXISTS (SELECT 1 FROM virtuozo_core.restore_points p WHERE p.guest_id = g.id)
