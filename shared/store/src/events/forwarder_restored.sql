-- The database has been restored from a dump: its server counts transactions anew, and those that are noted here
-- are not its own. What is told stays told; what is not is given this transaction, which $1, the place as it
-- is now noted, did not see.
WITH place AS (
    SELECT m.*, least(pg_snapshot_xmin(since), pg_snapshot_xmax(pg_current_snapshot())) AS foreign_from
      FROM virtuozo_core.event_forwarder m
     WHERE m.version = $1
), mended AS (
    UPDATE virtuozo_core.events e
       SET xact = CASE WHEN e.id <= p.max_id
                        AND (pg_visible_in_snapshot(e.xact, p.since)
                             OR coalesce(pg_visible_in_snapshot(e.xact, p.until), false)
                                AND (e.xact, e.id) <= (p.last_xact::text::xid8, p.last_id))
                       THEN '3'::xid8 ELSE pg_current_xact_id() END
      FROM place p
     WHERE e.xact >= p.foreign_from OR e.id > p.max_id)
UPDATE virtuozo_core.event_forwarder m
   SET since = pg_current_snapshot(), until = NULL, last_xact = 0, last_id = 0, version = m.version + 1
  FROM place p
