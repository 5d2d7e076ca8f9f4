-- $1: the worker, $2 and $3: the queue and the subject of the job, $4: the run. The workers are those that lacked something
-- that it needs since the run began, and lately.
SELECT virtuozo_core.leaves_to_others($1, n.kind, n.host_id, n.locations) AS leaves_to_others,
       coalesce((SELECT string_agg(DISTINCT format('%s on %s', w.name, w.machine), ', ')
                   FROM virtuozo_core.missing_capabilities u
                   JOIN virtuozo_core.workers w ON w.id = u.worker_id
                  WHERE (u.host_id = n.host_id OR u.location = ANY (n.locations))
                    AND u.noted_at >= least(now() - interval '5 minutes',
                                            (SELECT r.created_at FROM virtuozo_core.runs r WHERE r.id = $4))), '') AS tried
  FROM virtuozo_core.job_needs($2, $3) n
