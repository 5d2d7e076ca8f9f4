-- Optional caps on top of the slots of each host: for a datastore, a repository and the whole fleet.
-- NULL, or no row: no cap.

ALTER TABLE virtuozo_core.settings
    ADD COLUMN fleet_guest_threads integer CHECK (fleet_guest_threads >= 1);
ALTER TABLE virtuozo_core.datastores
    ADD COLUMN guest_threads integer CHECK (guest_threads >= 1);
CREATE TABLE virtuozo_core.repositories (
    path          text PRIMARY KEY CHECK (path <> ''),   -- the destination directory, as guests name it
    guest_threads integer NOT NULL CHECK (guest_threads >= 1)
);

CREATE FUNCTION virtuozo_core.has_caps() RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE fleet_guest_threads IS NOT NULL)
    OR EXISTS (SELECT 1 FROM virtuozo_core.repositories)
    OR EXISTS (SELECT 1 FROM virtuozo_core.datastores WHERE guest_threads IS NOT NULL);

-- Whether a path on a host, as '[name] dir/file' or absolute, lies in a datastore.
CREATE FUNCTION virtuozo_core.lies_in(path text, store virtuozo_core.datastores) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN starts_with(path, format('[%s]', store.name))
    OR coalesce(starts_with(path, rtrim(store.host_path, '/') || '/'), false);

-- Whether a guest has its configuration or a disk that is backed up in a datastore.
CREATE FUNCTION virtuozo_core.uses(guest virtuozo_core.guests, store virtuozo_core.datastores) RETURNS boolean LANGUAGE sql STABLE
RETURN guest.host_id = store.host_id
   AND (virtuozo_core.lies_in(guest.vmx_path, store)
        OR EXISTS (SELECT 1 FROM virtuozo_core.disks d
                    WHERE d.guest_id = guest.id AND NOT d.ignored AND virtuozo_core.lies_in(d.file_name, store)));

-- The caps that hold for a guest, and how many guests each has in work. A guest is in work while it has a slot.
CREATE FUNCTION virtuozo_core.caps(guest uuid) RETURNS TABLE (what text, cap integer, busy bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT 'fleet', s.fleet_guest_threads,
           (SELECT count(*) FROM virtuozo_core.guest_slots WHERE guest_run_id IS NOT NULL)
      FROM virtuozo_core.settings s
     WHERE s.fleet_guest_threads IS NOT NULL
    UNION ALL
    SELECT 'repository ' || r.path, r.guest_threads,
           (SELECT count(*)
              FROM virtuozo_core.guest_slots x
              JOIN virtuozo_core.guest_runs g ON g.id = x.guest_run_id
              JOIN virtuozo_core.guests o ON o.id = g.guest_id
             WHERE coalesce(o.destination, s.destination) = r.path)
      FROM virtuozo_core.guests u
     CROSS JOIN virtuozo_core.settings s
      JOIN virtuozo_core.repositories r ON r.path = coalesce(u.destination, s.destination)
     WHERE u.id = guest
    UNION ALL
    SELECT 'datastore ' || d.name, d.guest_threads,
           (SELECT count(*)
              FROM virtuozo_core.guest_slots x
              JOIN virtuozo_core.guest_runs g ON g.id = x.guest_run_id
              JOIN virtuozo_core.guests o ON o.id = g.guest_id
             WHERE x.host_id = d.host_id AND virtuozo_core.uses(o, d))
      FROM virtuozo_core.guests u
      JOIN virtuozo_core.datastores d ON virtuozo_core.uses(u, d)
     WHERE u.id = guest AND d.guest_threads IS NOT NULL;
END;

-- Admission where there is any cap: over all hosts, the oldest first, by one transaction at a time. Who is
-- held up by a cap, or by the slots of its host, holds up nobody behind it.
CREATE FUNCTION virtuozo_core.admit_under_caps() RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    next record;
    reached text;
    all_reached text[] := '{}';
    busy_hosts uuid[] := '{}';
BEGIN
    PERFORM pg_advisory_xact_lock(7316, 3);
    FOR next IN
        SELECT g.id, g.host_id, g.guest_id, 'repository ' || coalesce(u.destination, s.destination) AS repository
          FROM virtuozo_core.guest_runs g
          JOIN virtuozo_core.guests u ON u.id = g.guest_id
         CROSS JOIN virtuozo_core.settings s
         WHERE g.state = 'waiting' AND g.run_after <= now() AND NOT virtuozo_core.is_paused(g.host_id)
           AND EXISTS (SELECT 1 FROM virtuozo_core.guest_slots f WHERE f.host_id = g.host_id AND f.guest_run_id IS NULL)
         ORDER BY g.created_at, g.id
    LOOP
        EXIT WHEN 'fleet' = ANY (all_reached);
        CONTINUE WHEN next.host_id = ANY (busy_hosts) OR next.repository = ANY (all_reached);
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
            IF NOT starts_with(reached, 'datastore ') THEN
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
        IF NOT FOUND THEN
            busy_hosts := busy_hosts || next.host_id;
            CONTINUE;
        END IF;
        UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now() WHERE id = next.id;
        RETURN NEXT next.id;
    END LOOP;
END $$;

-- As before, with the caps.
CREATE OR REPLACE FUNCTION virtuozo_core.waiting_reason(g virtuozo_core.guest_runs) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN CASE
    WHEN g.state NOT IN ('waiting', 'admitted') THEN NULL
    WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                      WHERE w.kind = 'worker' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
        THEN 'no worker runs'
    WHEN g.state = 'admitted' THEN 'has a slot; the next worker with room for its host takes it'
    WHEN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE paused_at IS NOT NULL) THEN 'all hosts are paused'
    WHEN virtuozo_core.is_paused(g.host_id) THEN 'its host is paused'
    WHEN g.run_after > now() THEN format('its next attempt begins at %s', date_trunc('second', g.run_after))
    WHEN EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                  WHERE o.guest_id = g.guest_id AND o.state IN ('admitted', 'running'))
        THEN 'another run works on the guest'
    WHEN EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                  WHERE o.guest_id = g.guest_id AND o.claimed_until > now())
        THEN 'what an earlier run left behind is being undone'
    WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s WHERE s.host_id = g.host_id AND s.guest_run_id IS NULL)
        THEN format('all %s slots of its host are taken',
                    (SELECT count(*) FROM virtuozo_core.guest_slots s WHERE s.host_id = g.host_id))
    WHEN EXISTS (SELECT 1 FROM virtuozo_core.caps(g.guest_id) c WHERE c.busy >= c.cap)
        THEN (SELECT format('cap reached: %s, %s of %s guests in work', c.what, c.busy, c.cap)
                FROM virtuozo_core.caps(g.guest_id) c WHERE c.busy >= c.cap LIMIT 1)
    WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                      WHERE w.kind = 'scheduler' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
        THEN 'no scheduler runs'
    ELSE 'its turn comes with the next look of the scheduler'
END;
