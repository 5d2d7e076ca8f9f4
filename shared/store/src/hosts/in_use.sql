-- Why a host cannot be removed now: runs that are not over, obligations that are not met, and schedules
-- that would have no target left and so mean the whole site.
SELECT (SELECT count(*) FROM virtuozo_core.host_runs
         WHERE host_id = $1 AND state IN ('queued', 'running'))
     + (SELECT count(*) FROM virtuozo_core.guest_runs
         WHERE host_id = $1 AND state IN ('waiting', 'admitted', 'running')) AS open_runs,
       (SELECT count(*) FROM virtuozo_core.obligations WHERE host_id = $1) AS obligations,
       array(SELECT s.name
               FROM virtuozo_core.schedules s
               JOIN virtuozo_core.schedule_targets t ON t.schedule_id = s.id
               LEFT JOIN virtuozo_core.guests g ON g.id = t.guest_id
              GROUP BY s.id
             HAVING bool_and(coalesce(t.host_id, g.host_id) = $1)
              ORDER BY s.name) AS schedules
