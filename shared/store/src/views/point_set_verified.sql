-- A verification found every byte as it was written. $1: the restore point.
UPDATE virtuozo_core.restore_points SET verified_at = now(), state = 'published', damage = NULL
WHERE id = $1 AND state <> 'deleting'
