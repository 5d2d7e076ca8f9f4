-- The repository lies somewhere else now. $2, $3: where the point is; $4, $5: where it was.
UPDATE virtuozo_core.restore_points
   SET repository = $2, path = $3
 WHERE id = $1 AND repository = $4 AND path = $5 AND state <> 'deleting'
RETURNING id
