-- The fleet in figures: name, of what, value. All kinds are there also where there is nothing of them.
WITH due AS (
    SELECT job_type, count(*) AS jobs, extract(epoch FROM now() - min(run_at)) AS age
      FROM apalis.jobs
     WHERE status = 'Pending' AND run_at <= now() AND job_type LIKE 'virtuozo-%'
     GROUP BY job_type
), queue AS (
    SELECT q.name, coalesce(d.jobs, 0) AS jobs, coalesce(greatest(d.age, 0), 0) AS age
      FROM unnest(ARRAY['virtuozo-host', 'virtuozo-guest', 'virtuozo-undo', 'virtuozo-notice', 'virtuozo-request']) q(name)
      LEFT JOIN due d ON d.job_type = q.name
), guest_run AS (
    SELECT state, count(*) AS guest_runs
      FROM virtuozo_core.guest_runs WHERE state IN ('waiting', 'admitted', 'running') GROUP BY state
), unmet AS (
    SELECT kind, count(*) AS obligations, count(*) FILTER (WHERE attempts >= 3) AS failing,
           extract(epoch FROM now() - min(created_at)) AS age
      FROM virtuozo_core.obligations GROUP BY kind
), host AS (
    SELECT h.name, count(x.slot_no) AS slots, count(x.guest_run_id) AS used, h.state
      FROM virtuozo_core.hosts h LEFT JOIN virtuozo_core.guest_slots x ON x.host_id = h.id
     WHERE NOT h.ignored GROUP BY h.id
), failing AS (
    SELECT n.channel, count(*) AS notices
      FROM virtuozo_core.notices n
     WHERE n.kind <> 'test'
       AND n.channel IN (SELECT virtuozo_core.notice_channels(s) FROM virtuozo_core.notice_settings s)
       AND ((n.state IN ('waiting', 'sending') AND n.last_error IS NOT NULL)
            OR (n.state = 'failed' AND n.ended_at > now() - interval '7 days'))
     GROUP BY n.channel
), process AS (
    SELECT kind, count(*) AS processes
      FROM virtuozo_core.workers WHERE virtuozo_core.is_alive(heartbeat_at, stopped_at) GROUP BY kind
)
SELECT 'queue_jobs' AS name, name AS of, jobs::float8 AS value FROM queue
UNION ALL SELECT 'queue_age', name, age::float8 FROM queue
UNION ALL SELECT 'guest_runs', s, coalesce(guest_runs, 0)::float8
  FROM unnest(ARRAY['waiting', 'admitted', 'running']) s LEFT JOIN guest_run ON state = s
UNION ALL SELECT 'runs', NULL, count(*)::float8 FROM virtuozo_core.runs WHERE state = 'running'
UNION ALL SELECT 'slots', name, slots::float8 FROM host
UNION ALL SELECT 'slots_used', name, used::float8 FROM host
UNION ALL SELECT 'host_up', name, (state NOT IN ('unreachable', 'invalid'))::integer::float8 FROM host
UNION ALL SELECT 'obligations', k, coalesce(obligations, 0)::float8
  FROM unnest(ARRAY['remove_snapshot', 'power_on']) k LEFT JOIN unmet ON kind = k
UNION ALL SELECT 'obligations_failing', k, coalesce(failing, 0)::float8
  FROM unnest(ARRAY['remove_snapshot', 'power_on']) k LEFT JOIN unmet ON kind = k
UNION ALL SELECT 'snapshot_age', NULL, coalesce((SELECT age FROM unmet WHERE kind = 'remove_snapshot'), 0)::float8
UNION ALL SELECT 'processes', k, coalesce(processes, 0)::float8
  FROM unnest(ARRAY['worker', 'scheduler']) k LEFT JOIN process ON kind = k
UNION ALL SELECT 'notices_failing', c, coalesce(notices, 0)::float8
  FROM unnest(ARRAY['mail', 'webhook']) c LEFT JOIN failing ON channel = c
