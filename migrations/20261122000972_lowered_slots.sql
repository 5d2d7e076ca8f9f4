-- A host whose slots are fewer than its guests in work begins no other until as many have ended. So far a slot within
-- the new number was free for the next guest as soon as it was left, although slots beyond it were still taken.

-- Whoever has a slot beyond a host's cap moves into a free one within; free ones beyond go. For who holds the host's
-- row, as everybody does who pairs slots with runs.
CREATE FUNCTION virtuozo_core.compact_slots(host uuid, cap integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    beyond virtuozo_core.guest_slots;
    free integer;
BEGIN
    DELETE FROM virtuozo_core.guest_slots WHERE host_id = host AND slot_no > cap AND guest_run_id IS NULL;
    LOOP
        SELECT * INTO beyond FROM virtuozo_core.guest_slots
         WHERE host_id = host AND slot_no > cap
         ORDER BY slot_no DESC LIMIT 1;
        EXIT WHEN NOT FOUND;
        SELECT slot_no INTO free FROM virtuozo_core.guest_slots
         WHERE host_id = host AND slot_no <= cap AND guest_run_id IS NULL
         ORDER BY slot_no LIMIT 1;
        EXIT WHEN NOT FOUND;
        DELETE FROM virtuozo_core.guest_slots WHERE host_id = host AND slot_no = beyond.slot_no;
        UPDATE virtuozo_core.guest_slots SET guest_run_id = beyond.guest_run_id, taken_at = beyond.taken_at
         WHERE host_id = host AND slot_no = free;
    END LOOP;
END $$;

-- A slot that is left may be needed by somebody beyond the cap; whoever leaves it holds the host's row.
CREATE FUNCTION virtuozo_core.slot_is_left() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    cap CONSTANT integer := (SELECT coalesce(h.guest_threads, s.guest_threads)
                               FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
                              WHERE h.id = old.host_id);
BEGIN
    IF EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s WHERE s.host_id = old.host_id AND s.slot_no > cap) THEN
        PERFORM virtuozo_core.compact_slots(old.host_id, cap);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER slot_is_left AFTER UPDATE OF guest_run_id ON virtuozo_core.guest_slots
    FOR EACH ROW WHEN (old.guest_run_id IS NOT NULL AND new.guest_run_id IS NULL)
    EXECUTE FUNCTION virtuozo_core.slot_is_left();

-- Makes the slots of a host, or without one of all, equal to its cap; what is in work keeps its slot.
CREATE FUNCTION virtuozo_core.sync_slots(only_host uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    host record;
BEGIN
    FOR host IN
        SELECT h.id FROM virtuozo_core.hosts h
         WHERE only_host IS NULL OR h.id = only_host
         ORDER BY h.id
           FOR NO KEY UPDATE
    LOOP
        PERFORM virtuozo_core.compact_slots(h.id, coalesce(h.guest_threads, s.guest_threads))
           FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
          WHERE h.id = host.id;
        INSERT INTO virtuozo_core.guest_slots (host_id, slot_no)
        SELECT h.id, n
          FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
         CROSS JOIN LATERAL generate_series(1, coalesce(h.guest_threads, s.guest_threads)) n
         WHERE h.id = host.id
            ON CONFLICT DO NOTHING;
    END LOOP;
END $$;
