UPDATE virtuozo_core.guests
   SET state = CASE WHEN configured OR $2 = 'not_in_inventory' THEN $2 ELSE 'not_configured' END,
       state_reason = $3, checked_at = now()
 WHERE id = $1
