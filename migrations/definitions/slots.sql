-- Slots: the right to work on one more guest of a node of a host. Each node has as many as its host's cap; a host that
-- names no nodes is one, by the name ''.

-- The nodes of each host: those that its guests were on when they were last seen, or the nameless one.
CREATE OR REPLACE VIEW virtuozo_core.host_nodes AS
SELECT DISTINCT h.id AS host_id, coalesce(g.node, '') AS node
  FROM virtuozo_core.hosts h LEFT JOIN virtuozo_core.guests g ON g.host_id = h.id;

-- Frees a slot, or removes it where it lies beyond its host's cap.
CREATE OR REPLACE FUNCTION virtuozo_core.leave_slot_no(host uuid, its_node text, slot integer, cap integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF slot > cap THEN
        DELETE FROM virtuozo_core.guest_slots WHERE host_id = host AND node = its_node AND slot_no = slot;
    ELSE
        UPDATE virtuozo_core.guest_slots SET guest_run_id = NULL, taken_at = NULL
         WHERE host_id = host AND node = its_node AND slot_no = slot;
    END IF;
END $$;

-- Frees the slots of guest runs. A slot beyond the host's cap goes away with its use.
CREATE OR REPLACE FUNCTION virtuozo_core.free_slots(guest_runs uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH mine AS (
        SELECT s.host_id, s.node, s.slot_no, s.slot_no > coalesce(h.guest_threads, x.guest_threads) AS surplus
          FROM virtuozo_core.guest_slots s
          JOIN virtuozo_core.hosts h ON h.id = s.host_id
         CROSS JOIN virtuozo_core.settings x
         WHERE s.guest_run_id = ANY (guest_runs)
    ), gone AS (
        DELETE FROM virtuozo_core.guest_slots s
         USING mine
         WHERE s.host_id = mine.host_id AND s.node = mine.node AND s.slot_no = mine.slot_no AND mine.surplus
    )
    UPDATE virtuozo_core.guest_slots s
       SET guest_run_id = NULL, taken_at = NULL
      FROM mine
     WHERE s.host_id = mine.host_id AND s.node = mine.node AND s.slot_no = mine.slot_no AND NOT mine.surplus;
END $$;

-- Whoever has a slot of a node beyond the cap moves into a free one within; free ones beyond go. For who holds the
-- host's row, as everybody does who pairs slots with runs.
CREATE OR REPLACE FUNCTION virtuozo_core.compact_slots(host uuid, its_node text, cap integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    beyond virtuozo_core.guest_slots;
    free integer;
BEGIN
    DELETE FROM virtuozo_core.guest_slots
     WHERE host_id = host AND node = its_node AND slot_no > cap AND guest_run_id IS NULL;
    LOOP
        SELECT * INTO beyond FROM virtuozo_core.guest_slots
         WHERE host_id = host AND node = its_node AND slot_no > cap
         ORDER BY slot_no DESC LIMIT 1;
        EXIT WHEN NOT FOUND;
        SELECT slot_no INTO free FROM virtuozo_core.guest_slots
         WHERE host_id = host AND node = its_node AND slot_no <= cap AND guest_run_id IS NULL
         ORDER BY slot_no LIMIT 1;
        EXIT WHEN NOT FOUND;
        DELETE FROM virtuozo_core.guest_slots WHERE host_id = host AND node = its_node AND slot_no = beyond.slot_no;
        UPDATE virtuozo_core.guest_slots SET guest_run_id = beyond.guest_run_id, taken_at = beyond.taken_at
         WHERE host_id = host AND node = its_node AND slot_no = free;
    END LOOP;
END $$;

-- A slot that is left may be needed by somebody beyond the cap; whoever leaves it holds the host's row.
CREATE OR REPLACE FUNCTION virtuozo_core.slot_is_left() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    cap CONSTANT integer := (SELECT coalesce(h.guest_threads, s.guest_threads)
                               FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
                              WHERE h.id = old.host_id);
BEGIN
    IF EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s
                WHERE s.host_id = old.host_id AND s.node = old.node AND s.slot_no > cap) THEN
        PERFORM virtuozo_core.compact_slots(old.host_id, old.node, cap);
    END IF;
    RETURN NULL;
END $$;

-- Makes the slots of each node of a host, or without one of all, equal to its cap; what is in work keeps its slot, also
-- on a node that no guest is on any more.
CREATE OR REPLACE FUNCTION virtuozo_core.sync_slots(only_host uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    host record;
BEGIN
    FOR host IN
        SELECT h.id FROM virtuozo_core.hosts h
         WHERE only_host IS NULL OR h.id = only_host
         ORDER BY h.id
           FOR NO KEY UPDATE
    LOOP
        DELETE FROM virtuozo_core.guest_slots s
         WHERE s.host_id = host.id AND s.guest_run_id IS NULL
           AND NOT EXISTS (SELECT 1 FROM virtuozo_core.host_nodes n WHERE n.host_id = s.host_id AND n.node = s.node);
        PERFORM virtuozo_core.compact_slots(h.id, n.node, coalesce(h.guest_threads, s.guest_threads))
           FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
          CROSS JOIN LATERAL (SELECT DISTINCT x.node FROM virtuozo_core.guest_slots x WHERE x.host_id = h.id) n
          WHERE h.id = host.id;
        INSERT INTO virtuozo_core.guest_slots (host_id, node, slot_no)
        SELECT h.id, n.node, c
          FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
          JOIN virtuozo_core.host_nodes n ON n.host_id = h.id
         CROSS JOIN LATERAL generate_series(1, coalesce(h.guest_threads, s.guest_threads)) c
         WHERE h.id = host.id
            ON CONFLICT DO NOTHING;
    END LOOP;
END $$;
