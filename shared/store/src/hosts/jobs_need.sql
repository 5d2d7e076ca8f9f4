-- Jobs of a host ($1) that wait for a worker need its new kind ($2).
UPDATE apalis.jobs j
   SET needs_kind = $2
 WHERE j.status = 'Pending' AND j.job_type LIKE 'virtuozo-%' AND j.needs_kind NOT IN ('', $2)
   AND CASE j.job_type
           WHEN 'virtuozo-host' THEN EXISTS (
               SELECT 1 FROM virtuozo_core.host_runs r WHERE r.id = virtuozo_core.job_subject(j.job_type, j.job) AND r.host_id = $1)
           WHEN 'virtuozo-guest' THEN EXISTS (
               SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.id = virtuozo_core.job_subject(j.job_type, j.job) AND g.host_id = $1)
           WHEN 'virtuozo-undo' THEN EXISTS (
               SELECT 1 FROM virtuozo_core.guests u WHERE u.id = virtuozo_core.job_subject(j.job_type, j.job) AND u.host_id = $1)
           WHEN 'virtuozo-request' THEN EXISTS (
               SELECT 1 FROM virtuozo_core.requests q WHERE q.id = virtuozo_core.job_subject(j.job_type, j.job) AND q.host_id = $1)
       END
