-- $1: the worker, $2: the host, $3: the run; the workers are those that lacked something for the host since it began, and lately.
SELECT virtuozo_core.leaves_to_others($1, $2) AS leaves_to_others,
       coalesce((SELECT string_agg(DISTINCT format('%s on %s', w.name, w.machine), ', ')
                   FROM virtuozo_core.missing_capabilities u
                   JOIN virtuozo_core.workers w ON w.id = u.worker_id
                  WHERE u.host_id = $2
                    AND u.noted_at >= least(now() - interval '5 minutes',
                                            (SELECT r.created_at FROM virtuozo_core.runs r WHERE r.id = $3))), '') AS tried
