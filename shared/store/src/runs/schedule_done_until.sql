UPDATE virtuozo_core.schedules
   SET done_until = $2
 WHERE id = $1 AND enabled AND done_until < $2
RETURNING id
