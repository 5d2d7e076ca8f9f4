-- Everything that has a limit, how much of it is used at this instant, and the limit. Counted from the states
-- of the runs, not from the slots that are to hold them back; the last two rows say whether both agree.
WITH work AS (
    SELECT g.id, g.host_id, g.owner_id, g.state, u.name, coalesce(u.destination, s.destination) AS destination
      FROM virtuozo_core.guest_runs g
      JOIN virtuozo_core.guests u ON u.id = g.guest_id
     CROSS JOIN virtuozo_core.settings s
     WHERE g.state IN ('admitted', 'running')
), owned AS (
    SELECT owner_id, host_id FROM work WHERE state = 'running'
     UNION
    SELECT owner_id, host_id FROM virtuozo_core.host_runs WHERE state = 'running'
)
SELECT 'host' AS kind, h.name AS name, (SELECT count(*) FROM work w WHERE w.host_id = h.id) AS used,
       coalesce(h.guest_threads, s.guest_threads)::bigint AS most
  FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
UNION ALL
SELECT 'fleet', '', (SELECT count(*) FROM work), s.fleet_guest_threads
  FROM virtuozo_core.settings s WHERE s.fleet_guest_threads IS NOT NULL
UNION ALL
SELECT 'repository', r.path, (SELECT count(*) FROM work w WHERE w.destination = r.path), r.guest_threads
  FROM virtuozo_core.repositories r
UNION ALL
SELECT 'datastore', d.name, (SELECT count(*) FROM work w WHERE w.host_id = d.host_id AND starts_with(w.name, d.name)), d.guest_threads
  FROM virtuozo_core.datastores d WHERE d.guest_threads IS NOT NULL
UNION ALL
SELECT 'worker', o.owner_id::text, count(*), s.host_threads
  FROM owned o CROSS JOIN virtuozo_core.settings s GROUP BY o.owner_id, s.host_threads
UNION ALL
SELECT 'slot without work', '', (SELECT count(*) FROM virtuozo_core.guest_slots x
                                  WHERE x.guest_run_id IS NOT NULL AND x.guest_run_id NOT IN (SELECT id FROM work)), 0
UNION ALL
SELECT 'work without slot', '', (SELECT count(*) FROM work w
                                  WHERE NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_slots x WHERE x.guest_run_id = w.id)), 0
