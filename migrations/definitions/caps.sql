-- Caps on top of the slots of each host: for a datastore, a repository and the whole fleet.

-- Whether there is any. Where there is none, admission looks at one host only.
CREATE OR REPLACE FUNCTION virtuozo_core.has_caps() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE fleet_guest_threads IS NOT NULL)
        OR EXISTS (SELECT 1 FROM virtuozo_core.repositories)
        OR EXISTS (SELECT 1 FROM virtuozo_core.datastores WHERE guest_threads IS NOT NULL);
END $$;

-- Whether a guest had its configuration or a disk that is backed up in a datastore when it was last seen.
CREATE OR REPLACE FUNCTION virtuozo_core.uses(guest virtuozo_core.guests, store virtuozo_core.datastores) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN guest.host_id = store.host_id
       AND (coalesce(guest.datastore = store.name, false)
            OR EXISTS (SELECT 1 FROM virtuozo_core.disks d
                        WHERE d.guest_id = guest.id AND NOT d.ignored AND d.datastore = store.name));
END $$;

-- How many guests in a datastore are in work. Each slot in use leads to one guest: no plan may begin with
-- the guest runs, of which the history is full.
CREATE OR REPLACE FUNCTION virtuozo_core.in_work(store virtuozo_core.datastores) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT count(*)
              FROM virtuozo_core.guest_slots x
             WHERE x.host_id = store.host_id AND x.guest_run_id IS NOT NULL
               AND (SELECT virtuozo_core.uses(u, store)
                      FROM virtuozo_core.guest_runs g JOIN virtuozo_core.guests u ON u.id = g.guest_id
                     WHERE g.id = x.guest_run_id));
END $$;

-- How many guests are in work whose restore points go to a repository.
CREATE OR REPLACE FUNCTION virtuozo_core.in_work(repository virtuozo_core.repositories) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT count(*)
              FROM virtuozo_core.guest_slots x
             WHERE x.guest_run_id IS NOT NULL
               AND (SELECT coalesce(u.destination, s.destination) = repository.path
                      FROM virtuozo_core.guest_runs g JOIN virtuozo_core.guests u ON u.id = g.guest_id
                     CROSS JOIN virtuozo_core.settings s
                     WHERE g.id = x.guest_run_id));
END $$;

-- The caps that hold for a guest, and how many guests each has in work. A guest is in work while it has a slot.
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
