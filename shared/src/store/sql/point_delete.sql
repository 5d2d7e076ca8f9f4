DELETE FROM virtuozo.restore_points WHERE id = $1 AND state = 'deleting'
