-- The host runs of a run, each with the end of its last guest run. $1: the run.
SELECT h.id, o.name AS host, h.state, h.attempts, h.crashes, h.fence, h.error, h.error_class,
       greatest(h.created_at, r.trace_since) AS began_at,
       greatest(h.started_at, r.trace_since) AS started_at, h.ended_at AS inspected_at,
       greatest(h.ended_at, r.trace_since, (SELECT max(g.ended_at) FROM virtuozo_core.guest_runs g WHERE g.host_run_id = h.id)) AS ended_at
  FROM virtuozo_core.host_runs h
  JOIN virtuozo_core.runs r ON r.id = h.run_id
  JOIN virtuozo_core.hosts o ON o.id = h.host_id
 WHERE h.run_id = $1
