-- $1: name or id as text; NULL: any.
SELECT s.id, s.name, s.cron, s.time_zone, s.enabled, s.done_until,
       array(SELECT host_id FROM virtuozo_core.schedule_targets
              WHERE schedule_id = s.id AND host_id IS NOT NULL ORDER BY host_id) AS host_ids,
       array(SELECT guest_id FROM virtuozo_core.schedule_targets
              WHERE schedule_id = s.id AND guest_id IS NOT NULL ORDER BY guest_id) AS guest_ids
  FROM virtuozo_core.schedules s
 WHERE $1::text IS NULL OR s.name = $1 OR s.id::text = $1
 ORDER BY s.name
