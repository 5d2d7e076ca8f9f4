-- Guests that the host names under another locator than before: they were moved or renamed there. One whose new locator
-- is that of another stored guest stays, until that one is gone from there.
UPDATE virtuozo_core.guests g
   SET locator = listed.locator, updated_at = now()
  FROM unnest($2::text[], $3::uuid[]) AS listed (locator, uuid)
 WHERE g.host_id = $1 AND g.uuid = listed.uuid AND g.locator <> listed.locator
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guests o WHERE o.host_id = $1 AND o.locator = listed.locator)
