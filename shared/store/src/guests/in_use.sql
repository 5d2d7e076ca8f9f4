-- Why a guest cannot be removed now; as for hosts.
SELECT (SELECT count(*) FROM virtuozo_core.guest_runs
         WHERE guest_id = $1 AND state IN ('waiting', 'admitted', 'running')) AS open_runs,
       (SELECT count(*) FROM virtuozo_core.obligations WHERE guest_id = $1) AS obligations,
       array(SELECT s.name
               FROM virtuozo_core.schedules s
               JOIN virtuozo_core.schedule_targets t ON t.schedule_id = s.id
              GROUP BY s.id
             HAVING bool_and(coalesce(t.guest_id = $1, false))
              ORDER BY s.name) AS schedules
