UPDATE virtuozo_core.guests
   SET crashes = least(crashes, 2147483646) + 1,
       state = CASE WHEN configured THEN 'invalid' ELSE 'not_configured' END,
       state_reason = $2, checked_at = now()
 WHERE id = $1
