UPDATE virtuozo_core.hosts
   SET state = $2, state_reason = $3, checked_at = now()
 WHERE id = $1
