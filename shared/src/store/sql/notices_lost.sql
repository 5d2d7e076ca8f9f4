-- Due notices, and those whose sender is gone, whose job nobody will deliver any more.
SELECT n.id
  FROM virtuozo_core.notices n
 WHERE n.kind <> 'test'
   AND ((n.state = 'waiting' AND n.run_after < now() - interval '3 seconds')
        OR (n.state = 'sending' AND n.lease_until < now()))
   AND NOT EXISTS (
        SELECT 1 FROM apalis.jobs j
         WHERE j.job_type = $1
           AND j.job = convert_to(format('{"notice_id":"%s"}', n.id), 'UTF8')
           AND (j.status = 'Pending' OR (j.status IN ('Queued', 'Running') AND j.lock_at > now() - interval '15 seconds')))
   FOR NO KEY UPDATE OF n SKIP LOCKED
