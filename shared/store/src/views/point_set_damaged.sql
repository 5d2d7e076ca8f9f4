-- A verification found damage. $1: the restore point, $2: what is damaged.
UPDATE virtuozo_core.restore_points SET verified_at = NULL, read_back = NULL, state = 'damaged', damage = $2
WHERE id = $1 AND state <> 'deleting'
