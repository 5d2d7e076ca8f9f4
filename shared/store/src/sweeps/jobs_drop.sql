-- Jobs that would find nothing to do, whenever they are due: claimed one by one they hold the others up. A trigger
-- refuses those that cannot be read.
UPDATE apalis.jobs
   SET status = 'Killed', done_at = now(), lock_by = NULL, lock_at = NULL,
       last_result = jsonb_build_object('Err', 'there is nothing to do for it: what it names does not exist, is in work or is over')
 WHERE id IN (SELECT j.id FROM apalis.jobs j
               WHERE j.status = 'Pending'
                 AND j.job_type IN ('virtuozo-host', 'virtuozo-guest', 'virtuozo-undo', 'virtuozo-notice', 'virtuozo-request')
                 AND NOT virtuozo_core.has_purpose(j.job_type, j.job)
                 FOR UPDATE SKIP LOCKED)
