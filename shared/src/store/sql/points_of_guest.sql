SELECT id, repository, path, taken_at, verified_at IS NOT NULL AS verified, state
  FROM virtuozo_core.restore_points
 WHERE guest_id = $1
 ORDER BY taken_at DESC
