-- Those of the site first.
SELECT k.guest_id, h.name AS host, g.name AS guest, k.moment, k.command, k.limit_secs, k.on_failure
  FROM virtuozo_core.hooks k
  LEFT JOIN virtuozo_core.guests g ON g.id = k.guest_id
  LEFT JOIN virtuozo_core.hosts h ON h.id = g.host_id
 ORDER BY h.name NULLS FIRST, g.name, g.locator, k.moment DESC
