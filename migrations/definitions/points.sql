-- Restore points.

-- Whether a restore point may stand for older ones, so that those may go: it is good and verified, was made or adopted by
-- this site, and does not claim an instant that is still to come.
CREATE OR REPLACE FUNCTION virtuozo_core.can_cover(p virtuozo_core.restore_points)
RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT p.state = 'published' AND p.verified_at IS NOT NULL AND p.taken_at <= now()
       AND (p.found_at IS NULL OR p.adopted_at IS NOT NULL)
$$;

-- Marks a restore point as on its way out. 'begun': its directory goes next; 'under_way': it was marked before;
-- 'gone': there is none; 'uncovered': it stays, as fewer than `cover` others of its guest can stand for
-- it; by_newer: only those count that hold a later instant and were entered later, so a clock that was wrong once
-- makes no real backup go.
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
    -- One that was found and that nobody has adopted is not this site's to remove.
    IF by_newer AND it.found_at IS NOT NULL AND it.adopted_at IS NULL THEN
        RETURN 'uncovered';
    END IF;
    SELECT count(*) INTO covered_by
      FROM virtuozo_core.restore_points o
     WHERE o.id = ANY (of_guest) AND o.id <> point AND virtuozo_core.can_cover(o)
       AND (NOT by_newer OR (o.taken_at > it.taken_at AND o.entry_number > it.entry_number));
    IF covered_by < cover THEN
        RETURN 'uncovered';
    END IF;
    UPDATE virtuozo_core.restore_points SET state = 'deleting' WHERE id = point;
    RETURN 'begun';
END $$;
