-- Jobs that are over: older than an hour, or beyond the newest 10,000. $1: how many at once.
DELETE FROM apalis.jobs
 WHERE id IN (
       (SELECT id FROM apalis.jobs
         WHERE job_type LIKE 'virtuozo-%' AND status IN ('Done', 'Failed', 'Killed')
           AND coalesce(done_at, run_at) < now() - interval '1 hour'
         ORDER BY coalesce(done_at, run_at) LIMIT $1)
       UNION
       (SELECT id FROM apalis.jobs
         WHERE job_type LIKE 'virtuozo-%' AND status IN ('Done', 'Failed', 'Killed')
           AND (status <> 'Failed' OR attempts >= max_attempts)
         ORDER BY coalesce(done_at, run_at) DESC OFFSET 10000 LIMIT $1))
