-- Ends a run in which nothing is open any more. The caller holds the run's row lock since an earlier
-- statement, so of two last guest runs that end at the same time the second sees the first.
UPDATE virtuozo_core.runs r
   SET ended_at = now(),
       state = CASE WHEN c.cancelled > 0 AND (r.cancel_requested OR c.failed + c.hosts_failed = 0) THEN 'cancelled'
                    WHEN c.failed + c.hosts_failed > 0 THEN 'failed'
                    ELSE 'succeeded' END,
       error = CASE WHEN c.failed + c.hosts_failed > 0
                    THEN format('%s of %s guests and %s of %s hosts failed', c.failed, c.guests, c.hosts_failed, c.hosts)
               END
  FROM (SELECT (SELECT count(*) FROM virtuozo_core.guest_runs WHERE run_id = $1) AS guests,
               (SELECT count(*) FROM virtuozo_core.guest_runs WHERE run_id = $1 AND state = 'succeeded') AS succeeded,
               (SELECT count(*) FROM virtuozo_core.guest_runs WHERE run_id = $1 AND state = 'failed') AS failed,
               (SELECT count(*) FROM virtuozo_core.host_runs WHERE run_id = $1) AS hosts,
               (SELECT count(*) FROM virtuozo_core.host_runs WHERE run_id = $1 AND state = 'failed') AS hosts_failed,
               (SELECT count(*) FROM virtuozo_core.guest_runs WHERE run_id = $1 AND state = 'cancelled')
               + (SELECT count(*) FROM virtuozo_core.host_runs WHERE run_id = $1 AND state = 'cancelled') AS cancelled) c
 WHERE r.id = $1
   AND r.state = 'running'
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.host_runs WHERE run_id = $1 AND state IN ('queued', 'running'))
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs WHERE run_id = $1 AND state IN ('waiting', 'admitted', 'running'))
RETURNING r.state, r.error, c.guests, c.succeeded
