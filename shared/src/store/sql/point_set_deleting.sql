UPDATE virtuozo.restore_points SET state = 'deleting' WHERE id = $1 AND state IN ('published', 'deleting') RETURNING id
