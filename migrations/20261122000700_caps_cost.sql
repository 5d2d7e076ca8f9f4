-- What admission under caps costs, with many guests that wait. A function in LANGUAGE sql that is not inlined
-- is planned anew in each statement that calls it; one in plpgsql keeps its plans for the session.

CREATE OR REPLACE FUNCTION virtuozo_core.uses(guest virtuozo_core.guests, store virtuozo_core.datastores) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN guest.host_id = store.host_id
       AND (virtuozo_core.lies_in(guest.vmx_path, store)
            OR EXISTS (SELECT 1 FROM virtuozo_core.disks d
                        WHERE d.guest_id = guest.id AND NOT d.ignored AND virtuozo_core.lies_in(d.file_name, store)));
END $$;

-- How many guests in a datastore are in work. Each slot in use leads to one guest: no plan may begin with
-- the guest runs, of which the history is full.
CREATE FUNCTION virtuozo_core.in_work(store virtuozo_core.datastores) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT count(*)
              FROM virtuozo_core.guest_slots x
             WHERE x.host_id = store.host_id AND x.guest_run_id IS NOT NULL
               AND (SELECT virtuozo_core.uses(u, store)
                      FROM virtuozo_core.guest_runs g JOIN virtuozo_core.guests u ON u.id = g.guest_id
                     WHERE g.id = x.guest_run_id));
END $$;

-- How many guests are in work whose restore points go to a repository.
CREATE FUNCTION virtuozo_core.in_work(repository virtuozo_core.repositories) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT count(*)
              FROM virtuozo_core.guest_slots x
             WHERE x.guest_run_id IS NOT NULL
               AND (SELECT coalesce(u.destination, s.destination) = repository.path
                      FROM virtuozo_core.guest_runs g JOIN virtuozo_core.guests u ON u.id = g.guest_id
                     CROSS JOIN virtuozo_core.settings s
                     WHERE g.id = x.guest_run_id));
END $$;

CREATE OR REPLACE FUNCTION virtuozo_core.caps(guest uuid) RETURNS TABLE (what text, cap integer, busy bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT 'fleet', s.fleet_guest_threads,
           (SELECT count(*) FROM virtuozo_core.guest_slots WHERE guest_run_id IS NOT NULL)
      FROM virtuozo_core.settings s
     WHERE s.fleet_guest_threads IS NOT NULL
    UNION ALL
    SELECT 'repository ' || r.path, r.guest_threads, virtuozo_core.in_work(r)
      FROM virtuozo_core.guests u
     CROSS JOIN virtuozo_core.settings s
      JOIN virtuozo_core.repositories r ON r.path = coalesce(u.destination, s.destination)
     WHERE u.id = guest
    UNION ALL
    SELECT 'datastore ' || d.name, d.guest_threads, virtuozo_core.in_work(d)
      FROM virtuozo_core.guests u
      JOIN virtuozo_core.datastores d ON d.host_id = u.host_id
     WHERE u.id = guest AND d.guest_threads IS NOT NULL AND virtuozo_core.uses(u, d);
END $$;

-- Hosts of which a guest may be begun, as far as the host is concerned; of one that is down one is enough.
DO $$
BEGIN
    IF to_regclass('virtuozo_core.ready_hosts') IS NULL THEN
        CREATE VIEW virtuozo_core.ready_hosts AS
        SELECT h.id AS host_id, false AS is_down
          FROM virtuozo_core.hosts h
         WHERE NOT virtuozo_core.is_paused(h.id)
           AND EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s WHERE s.host_id = h.id AND s.guest_run_id IS NULL);
    END IF;
END $$;

-- Admission under caps, as before. What is full is known before the guests that wait for it are looked at, and
-- nobody waits for another's admission: who ends a guest run holds locks that its lease needs.
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
            AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                             WHERE o.guest_id = g.guest_id AND o.state IN ('admitted', 'running'))
            AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                             WHERE o.guest_id = g.guest_id AND o.state = 'waiting' AND o.run_after <= now()
                               AND (o.created_at, o.id) < (g.created_at, g.id))
            AND NOT EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                             WHERE o.guest_id = g.guest_id AND o.claimed_until > now())
            FOR UPDATE OF g SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        SELECT c.what INTO reached FROM virtuozo_core.caps(next.guest_id) c WHERE c.busy >= c.cap LIMIT 1;
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

