-- Guests whose UUID is news: it was not known, or what stands at the locator was made anew.
UPDATE virtuozo_core.guests g
   SET uuid = listed.uuid, updated_at = now()
  FROM unnest($2::text[], $3::uuid[]) AS listed (locator, uuid)
 WHERE g.host_id = $1 AND g.locator = listed.locator AND listed.uuid IS NOT NULL AND g.uuid IS DISTINCT FROM listed.uuid
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guests o WHERE o.host_id = $1 AND o.uuid = listed.uuid)
