-- Its directory was missing ($2 says so) and is there again; whether it is good is not known.
UPDATE virtuozo_core.restore_points SET state = 'published', damage = NULL
 WHERE id = $1 AND state = 'damaged' AND damage = $2
RETURNING id
