-- Guests of a host that its inventory no longer names; only those of which that is news.
UPDATE virtuozo_core.guests
   SET state = 'not_in_inventory', state_reason = 'its host does not know it', power = NULL, checked_at = now()
 WHERE host_id = $1 AND locator <> ALL ($2::text[]) AND state <> 'not_in_inventory'
RETURNING id, name, (SELECT h.name FROM virtuozo_core.hosts h WHERE h.id = $1) AS host
