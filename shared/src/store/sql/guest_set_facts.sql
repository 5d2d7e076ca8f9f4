-- A guest about which nobody has decided stays so, whatever state it is in.
UPDATE virtuozo_core.guests
   SET name = $2, power = $3,
       state = CASE WHEN configured THEN $4 ELSE 'not_configured' END,
       state_reason = $5, checked_at = now()
 WHERE id = $1
