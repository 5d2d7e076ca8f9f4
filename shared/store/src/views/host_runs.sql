-- The hosts of one run. $1: the run.
SELECT hr.id, h.name AS host, hr.state, hr.attempts, hr.crashes, hr.run_after, hr.run_after > now() AS is_delayed,
       hr.error, hr.error_class, hr.started_at, hr.ended_at, w.name AS worker,
       coalesce(virtuozo_core.host_run_obstacle(hr), CASE hr.state WHEN 'queued' THEN virtuozo_core.kind_reason(hr.host_id) END,
                'its host ' || virtuozo_core.down_reason(hr.host_id)) AS held_reason
FROM virtuozo_core.host_runs hr
JOIN virtuozo_core.hosts h ON h.id = hr.host_id
LEFT JOIN virtuozo_core.workers w ON w.id = hr.owner_id
WHERE hr.run_id = $1
ORDER BY h.name
