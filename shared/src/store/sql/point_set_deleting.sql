UPDATE virtuozo_core.restore_points SET state = 'deleting' WHERE id = $1 RETURNING id
