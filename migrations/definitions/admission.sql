-- Admission: slots and waiting guest runs are paired, as obstacles.sql allows.

-- Hosts of which a guest may be begun, as far as the host is concerned; of one that is down one is enough, to
-- probe it.
CREATE OR REPLACE VIEW virtuozo_core.ready_hosts AS
SELECT h.id AS host_id, EXISTS (SELECT 1 FROM virtuozo_core.circuit_breakers x WHERE x.host_id = h.id) AS is_down
  FROM virtuozo_core.hosts h
 WHERE virtuozo_core.host_reason(h.id) IS NULL AND virtuozo_core.slot_reason(h.id) IS NULL;

-- Admission where there is any cap: over all hosts, the oldest first, by one transaction at a time. Who is held up by a
-- cap, or by the slots of its host, holds up nobody behind it. What is full is known before the guests that wait for it
-- are looked at, and nobody waits for another's admission: who ends a guest run holds locks that its lease needs.
CREATE OR REPLACE FUNCTION virtuozo_core.admit_under_caps() RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    next record;
    reached text;
    all_reached text[] := '{}';
    busy_hosts uuid[] := '{}';
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
               h.is_down
          -- By host: what holds for all guests of a host is asked once.
          FROM (SELECT * FROM virtuozo_core.ready_hosts OFFSET 0) h
          JOIN virtuozo_core.guest_runs g ON g.host_id = h.host_id AND g.state = 'waiting' AND g.run_after <= now()
          JOIN virtuozo_core.guests u ON u.id = g.guest_id
         CROSS JOIN virtuozo_core.settings s
         ORDER BY g.created_at, g.id
    LOOP
        EXIT WHEN 'fleet' = ANY (all_reached);
        CONTINUE WHEN next.host_id = ANY (busy_hosts) OR next.repository = ANY (all_reached)
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
         WHERE host_id = next.host_id
           AND slot_no = (SELECT f.slot_no FROM virtuozo_core.guest_slots f
                           WHERE f.host_id = next.host_id AND f.guest_run_id IS NULL
                           ORDER BY f.slot_no LIMIT 1 FOR UPDATE SKIP LOCKED);
        IF NOT FOUND OR next.is_down THEN
            busy_hosts := busy_hosts || next.host_id;
        END IF;
        CONTINUE WHEN NOT FOUND;
        UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now() WHERE id = next.id;
        RETURN NEXT next.id;
    END LOOP;
END $$;

-- Pairs the free slots of a host with its oldest waiting guest runs that may go, and pushes their jobs; of a guest run
-- that ends, its slot goes to the next one or becomes free. Of a host that did not answer one guest run goes, to probe it.
-- Where any cap reaches over hosts, all hosts are looked at. Holds the host's row until the transaction ends: who pairs
-- slots with runs of a host does so alone. Returns the run of each that was admitted.
CREATE OR REPLACE FUNCTION virtuozo_core.admit(host uuid, ended uuid) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    this record;
    own integer;
    slot integer;
    next record;
BEGIN
    PERFORM 1 FROM virtuozo_core.hosts WHERE id = host FOR NO KEY UPDATE;
    -- As a statement of its own, which sees what was committed while this one waited for the host.
    SELECT coalesce(h.guest_threads, s.guest_threads) AS cap,
           virtuozo_core.host_reason(h.id) IS NULL AS may_begin,
           EXISTS (SELECT 1 FROM virtuozo_core.circuit_breakers x WHERE x.host_id = h.id) AS is_down,
           virtuozo_core.has_caps() AS capped,
           (SELECT o.slot_no FROM virtuozo_core.guest_slots o WHERE o.guest_run_id = ended) AS own,
           EXISTS (SELECT 1 FROM virtuozo_core.guest_slots o
                    WHERE o.host_id = h.id AND o.slot_no > coalesce(h.guest_threads, s.guest_threads)) AS is_over
      INTO this
      FROM virtuozo_core.settings s
     CROSS JOIN virtuozo_core.hosts h
     WHERE h.id = host;
    own := this.own;
    -- Of a host with more in work than it may have since its cap was lowered, no slot goes to the next one.
    IF own IS NOT NULL AND (this.capped OR this.is_over) THEN
        PERFORM virtuozo_core.leave_slot_no(host, own, this.cap);
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
    IF this.may_begin THEN
        LOOP
            IF own IS NOT NULL THEN
                slot := own;
            ELSE
                SELECT s.slot_no INTO slot
                  FROM virtuozo_core.guest_slots s
                 WHERE s.host_id = host AND s.guest_run_id IS NULL
                 ORDER BY s.slot_no
                 LIMIT 1
                   FOR UPDATE SKIP LOCKED;
                EXIT WHEN NOT FOUND;
            END IF;
            SELECT g.id, g.run_id INTO next
              FROM virtuozo_core.guest_runs g
             WHERE g.host_id = host AND g.state = 'waiting' AND g.run_after <= now()
               AND virtuozo_core.guest_reason(g) IS NULL
             ORDER BY g.created_at, g.id
             LIMIT 1
               FOR UPDATE OF g SKIP LOCKED;
            EXIT WHEN NOT FOUND;
            UPDATE virtuozo_core.guest_slots SET guest_run_id = next.id, taken_at = now()
             WHERE host_id = host AND slot_no = slot;
            IF slot = own THEN
                own := NULL;
            END IF;
            UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now() WHERE id = next.id;
            PERFORM virtuozo_core.push_jobs('virtuozo-guest', ARRAY[next.id], 0);
            RETURN NEXT next.run_id;
            EXIT WHEN this.is_down;
        END LOOP;
    END IF;
    IF own IS NOT NULL THEN
        PERFORM virtuozo_core.leave_slot_no(host, own, this.cap);
    END IF;
END $$;
