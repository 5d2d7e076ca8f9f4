-- Admission: slots and waiting guest runs are paired, as obstacles.sql allows.

-- Hosts of which a guest may be begun, as far as the host is concerned; of one that is down one is enough, to
-- probe it.
CREATE OR REPLACE VIEW virtuozo_core.ready_hosts AS
SELECT h.id AS host_id, EXISTS (SELECT 1 FROM virtuozo_core.circuit_breakers x WHERE x.host_id = h.id) AS is_down
  FROM virtuozo_core.hosts h
 WHERE virtuozo_core.host_reason(h.id) IS NULL AND virtuozo_core.slot_reason(h.id, NULL) IS NULL;

-- Admission where there is any cap: over all hosts, the oldest first, by one transaction at a time. Who is held up by a
-- cap, or by the slots of its node, holds up nobody behind it. What is full is known before the guests that wait for it
-- are looked at, and nobody waits for another's admission: who ends a guest run holds locks that its lease needs.
CREATE OR REPLACE FUNCTION virtuozo_core.admit_under_caps() RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    next record;
    reached text;
    all_reached text[] := '{}';
    busy_hosts uuid[] := '{}';
    full_nodes text[] := '{}';
    full_stores virtuozo_core.datastores[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(7316, 3) THEN
        -- Whoever admits now may have looked before this slot was free, so the scheduler is to look again.
        PERFORM pg_notify('virtuozo::look', '');
        RETURN;
    END IF;
    -- Looked for at the beginning, not at each of the guests that wait for them.
    full_stores := ARRAY(
        SELECT d FROM virtuozo_core.datastores d
         WHERE d.guest_threads IS NOT NULL AND virtuozo_core.in_work(d) >= d.guest_threads);
    FOR next IN
        SELECT g.id, g.host_id, g.guest_id, u AS guest, 'repository ' || coalesce(u.destination, s.destination) AS repository,
               h.is_down, coalesce(u.node, '') AS node, h.host_id || ' ' || coalesce(u.node, '') AS place
          -- By host: what holds for all guests of a host is asked once. Who is not due is left out here for the cost only:
          -- guest_reason, which is asked below, says the same, but by a call for each guest run.
          FROM (SELECT * FROM virtuozo_core.ready_hosts OFFSET 0) h
          JOIN virtuozo_core.guest_runs g ON g.host_id = h.host_id AND g.state = 'waiting' AND g.run_after <= now()
          JOIN virtuozo_core.guests u ON u.id = g.guest_id
         CROSS JOIN virtuozo_core.settings s
         ORDER BY g.created_at, g.id
    LOOP
        EXIT WHEN 'fleet' = ANY (all_reached);
        CONTINUE WHEN next.host_id = ANY (busy_hosts) OR next.place = ANY (full_nodes) OR next.repository = ANY (all_reached)
                   OR EXISTS (SELECT 1 FROM unnest(full_stores) d
                               WHERE d.host_id = next.host_id AND virtuozo_core.uses(next.guest, d));
        -- Who pairs slots with runs, or claims obligations, of one host does so alone; whoever has a host
        -- now admits its runs next.
        PERFORM 1 FROM virtuozo_core.hosts h WHERE h.id = next.host_id FOR NO KEY UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            busy_hosts := busy_hosts || next.host_id;
            CONTINUE;
        END IF;
        PERFORM 1
           FROM virtuozo_core.guest_runs g
          WHERE g.id = next.id AND g.state = 'waiting'
            AND virtuozo_core.guest_reason(g) IS NULL
            FOR UPDATE OF g SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        SELECT c.what INTO reached FROM virtuozo_core.reached_cap(next.guest_id) c;
        IF FOUND THEN
            -- Names of datastores are those of one host only.
            IF starts_with(reached, 'datastore ') THEN
                full_stores := full_stores || (SELECT d FROM virtuozo_core.datastores d
                                                WHERE d.host_id = next.host_id AND 'datastore ' || d.name = reached);
            ELSE
                all_reached := all_reached || reached;
            END IF;
            CONTINUE;
        END IF;
        UPDATE virtuozo_core.guest_slots
           SET guest_run_id = next.id, taken_at = now()
         WHERE host_id = next.host_id AND node = next.node
           AND slot_no = (SELECT f.slot_no FROM virtuozo_core.guest_slots f
                           WHERE f.host_id = next.host_id AND f.node = next.node AND f.guest_run_id IS NULL
                           ORDER BY f.slot_no LIMIT 1 FOR UPDATE SKIP LOCKED);
        IF NOT FOUND THEN
            full_nodes := full_nodes || next.place;
            CONTINUE;
        END IF;
        IF next.is_down THEN
            busy_hosts := busy_hosts || next.host_id;
        END IF;
        UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now() WHERE id = next.id;
        RETURN NEXT next.id;
    END LOOP;
END $$;

-- Pairs the free slots of a host's nodes with the oldest waiting guest runs on them that may go, and pushes their jobs; of a
-- guest run that ends, its slot goes to the next one on that node or becomes free. Of a host that did not answer one guest
-- run goes, to probe it. Where any cap reaches over hosts, all hosts are looked at. Holds the host's row until the
-- transaction ends: who pairs slots with runs of a host does so alone. Returns the run of each that was admitted.
CREATE OR REPLACE FUNCTION virtuozo_core.admit(host uuid, ended uuid) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    this record;
    own integer;
    its_node text;
    slot integer;
    next record;
    idle_nodes text[] := '{}';
BEGIN
    PERFORM 1 FROM virtuozo_core.hosts WHERE id = host FOR NO KEY UPDATE;
    -- As a statement of its own, which sees what was committed while this one waited for the host.
    SELECT coalesce(h.guest_threads, s.guest_threads) AS cap,
           virtuozo_core.host_reason(h.id) IS NULL AS may_begin,
           EXISTS (SELECT 1 FROM virtuozo_core.circuit_breakers x WHERE x.host_id = h.id) AS is_down,
           virtuozo_core.has_caps() AS capped, o.node, o.slot_no AS own,
           EXISTS (SELECT 1 FROM virtuozo_core.guest_slots x
                    WHERE x.host_id = h.id AND x.node = o.node AND x.slot_no > coalesce(h.guest_threads, s.guest_threads)) AS is_over
      INTO this
      FROM virtuozo_core.settings s
     CROSS JOIN virtuozo_core.hosts h
      LEFT JOIN virtuozo_core.guest_slots o ON o.guest_run_id = ended
     WHERE h.id = host;
    own := this.own;
    -- Of a node with more in work than it may have since its host's cap was lowered, no slot goes to the next one.
    IF own IS NOT NULL AND (this.capped OR this.is_over) THEN
        PERFORM virtuozo_core.leave_slot_no(host, this.node, own, this.cap);
        own := NULL;
    END IF;
    IF this.capped THEN
        FOR next IN
            SELECT g.id, g.run_id
              FROM virtuozo_core.admit_under_caps() AS a (id)
              JOIN virtuozo_core.guest_runs g ON g.id = a.id
        LOOP
            PERFORM virtuozo_core.push_jobs('virtuozo-guest', ARRAY[next.id], 0);
            RETURN NEXT next.run_id;
        END LOOP;
        RETURN;
    END IF;
    WHILE this.may_begin LOOP
        IF own IS NOT NULL THEN
            its_node := this.node;
            slot := own;
        ELSE
            SELECT s.node, s.slot_no INTO its_node, slot
              FROM virtuozo_core.guest_slots s
             WHERE s.host_id = host AND s.guest_run_id IS NULL AND s.node <> ALL (idle_nodes)
             ORDER BY s.node, s.slot_no
             LIMIT 1
               FOR UPDATE SKIP LOCKED;
            EXIT WHEN NOT FOUND;
        END IF;
        -- The due time and the node first, which cost less to know: guest_reason says the same of the due time, but by a call
        -- for each guest run.
        SELECT g.id, g.run_id INTO next
          FROM virtuozo_core.guest_runs g
         WHERE g.host_id = host AND g.state = 'waiting' AND g.run_after <= now()
           AND CASE WHEN its_node = coalesce((SELECT u.node FROM virtuozo_core.guests u WHERE u.id = g.guest_id), '')
                    THEN virtuozo_core.guest_reason(g) IS NULL END
         ORDER BY g.created_at, g.id
         LIMIT 1
           FOR UPDATE OF g SKIP LOCKED;
        IF NOT FOUND THEN
            IF own IS NOT NULL THEN
                PERFORM virtuozo_core.leave_slot_no(host, its_node, own, this.cap);
                own := NULL;
            END IF;
            idle_nodes := idle_nodes || its_node;
            CONTINUE;
        END IF;
        own := NULL;
        WITH taken AS (
            UPDATE virtuozo_core.guest_slots SET guest_run_id = next.id, taken_at = now()
             WHERE host_id = host AND node = its_node AND slot_no = slot)
        UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now() WHERE id = next.id;
        PERFORM virtuozo_core.push_jobs('virtuozo-guest', ARRAY[next.id], 0);
        RETURN NEXT next.run_id;
        EXIT WHEN this.is_down;
    END LOOP;
    IF own IS NOT NULL THEN
        PERFORM virtuozo_core.leave_slot_no(host, this.node, own, this.cap);
    END IF;
END $$;
