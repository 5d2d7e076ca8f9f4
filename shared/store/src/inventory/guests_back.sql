-- Guests that were missing and are named again.
UPDATE virtuozo_core.guests
   SET state = CASE WHEN configured THEN 'unknown' ELSE 'not_configured' END, state_reason = NULL,
       checked_at = now()
 WHERE host_id = $1 AND locator = ANY ($2::text[]) AND state = 'not_in_inventory'
RETURNING id, name, (SELECT h.name FROM virtuozo_core.hosts h WHERE h.id = $1) AS host
