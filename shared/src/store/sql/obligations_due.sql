-- Guests that owe something and that nobody works on, without a job on its way.
SELECT DISTINCT o.guest_id
  FROM virtuozo_core.obligations o
 WHERE o.next_attempt_at <= now()
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.obligations c WHERE c.guest_id = o.guest_id AND c.claimed_until > now())
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g
                    WHERE g.guest_id = o.guest_id AND g.state IN ('admitted', 'running'))
   AND NOT EXISTS (
        SELECT 1 FROM apalis.jobs j
         WHERE j.job_type = $1
           AND j.job = convert_to(format('{"guest_id":"%s"}', o.guest_id), 'UTF8')
           AND (j.status = 'Pending' OR (j.status IN ('Queued', 'Running') AND j.lock_at > now() - interval '15 seconds')))
