-- $1: host, $2: name of the host, $3: name, locator or id as text; NULL: any.
SELECT *
  FROM virtuozo_core.guest_details g
 WHERE ($1::uuid IS NULL OR g.host_id = $1)
   AND ($2::text IS NULL OR g.host_name = $2)
   AND ($3::text IS NULL OR g.name = $3 OR g.locator = $3 OR g.id::text = $3)
 ORDER BY g.host_name, g.name, g.locator
