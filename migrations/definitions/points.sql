-- Restore points.

-- Marks a restore point as on its way out. 'begun': its directory goes next; 'under_way': it was marked before;
-- 'gone': there is none; 'uncovered': it stays, as fewer than `cover` others of its guest are good and verified;
-- by_newer: only newer ones count.
CREATE OR REPLACE FUNCTION virtuozo_core.begin_delete(point uuid, cover integer, by_newer boolean)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    it virtuozo_core.restore_points;
    of_guest uuid[];
    covered_by bigint;
BEGIN
    SELECT * INTO it FROM virtuozo_core.restore_points WHERE id = point;
    -- One after the other for each guest, and none is found damaged meanwhile.
    IF it.guest_id IS NOT NULL THEN
        of_guest := ARRAY(SELECT p.id FROM virtuozo_core.restore_points p
                           WHERE p.guest_id = it.guest_id
                           ORDER BY p.id FOR NO KEY UPDATE);
    ELSE
        of_guest := ARRAY(SELECT p.id FROM virtuozo_core.restore_points p
                           WHERE p.guest_id IS NULL AND p.host_name = it.host_name AND p.guest_name = it.guest_name
                           ORDER BY p.id FOR NO KEY UPDATE);
    END IF;
    -- As statements of their own, which see what was committed while this one waited.
    SELECT * INTO it FROM virtuozo_core.restore_points WHERE id = point;
    IF NOT FOUND THEN
        RETURN 'gone';
    END IF;
    IF it.state = 'deleting' THEN
        RETURN 'under_way';
    END IF;
    SELECT count(*) INTO covered_by
      FROM virtuozo_core.restore_points o
     WHERE o.id = ANY (of_guest) AND o.id <> point AND o.state = 'published' AND o.verified_at IS NOT NULL
       AND (NOT by_newer OR o.taken_at > it.taken_at);
    IF covered_by < cover THEN
        RETURN 'uncovered';
    END IF;
    UPDATE virtuozo_core.restore_points SET state = 'deleting' WHERE id = point;
    RETURN 'begun';
END $$;
