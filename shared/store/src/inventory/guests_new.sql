-- Guests that the host names and we do not know yet; the setting new_guests decides about them.
INSERT INTO virtuozo_core.guests (id, host_id, locator, name, uuid, configured, state)
SELECT gen_random_uuid(), $1, listed.locator, listed.name, listed.uuid, s.new_guests = 'backup',
       CASE s.new_guests WHEN 'backup' THEN 'unknown' ELSE 'not_configured' END
  FROM unnest($2::text[], $3::text[], $4::uuid[]) AS listed (locator, name, uuid)
 CROSS JOIN virtuozo_core.settings s
ON CONFLICT DO NOTHING
RETURNING id, name, configured, (SELECT h.name FROM virtuozo_core.hosts h WHERE h.id = $1) AS host
