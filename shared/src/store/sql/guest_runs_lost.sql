-- Admitted guest runs whose job nobody will deliver any more: it was done, dropped, or its claimer died.
SELECT g.id
  FROM virtuozo_core.guest_runs g
 WHERE g.state = 'admitted'
   AND g.admitted_at < now() - interval '5 seconds'
   AND NOT EXISTS (
        SELECT 1 FROM apalis.jobs j
         WHERE j.job_type = $1
           AND j.job = convert_to(format('{"guest_run_id":"%s"}', g.id), 'UTF8')
           AND (j.status = 'Pending' OR (j.status IN ('Queued', 'Running') AND j.lock_at > now() - interval '15 seconds')))
   FOR NO KEY UPDATE OF g SKIP LOCKED
