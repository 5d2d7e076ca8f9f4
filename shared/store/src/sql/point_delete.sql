DELETE FROM virtuozo_core.restore_points WHERE id = $1 AND state = 'deleting'
