-- A restore point that was found stands for backups of its guest from now on.
UPDATE virtuozo_core.restore_points SET adopted_at = now()
 WHERE id = $1 AND found_at IS NOT NULL AND adopted_at IS NULL AND state <> 'deleting'
RETURNING id
