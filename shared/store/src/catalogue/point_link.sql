-- The guest of a restore point that was found before the guest was known. One whose guest was forgotten by
-- somebody stays without: retention does not touch it.
UPDATE virtuozo_core.restore_points p
   SET guest_id = g.id
  FROM (SELECT g.id
          FROM virtuozo_core.guests g
          JOIN virtuozo_core.hosts h ON h.id = g.host_id
         WHERE h.name = $2 AND (g.uuid = $4 OR g.locator = $3)
         ORDER BY (g.uuid = $4) IS TRUE DESC
         LIMIT 1) g
 WHERE p.id = $1 AND p.guest_id IS NULL AND p.found_at IS NOT NULL
RETURNING p.id
