-- Jobs that were claimed and not handed over before the process stopped: for others. $1: the claimer.
UPDATE apalis.jobs
   SET status = 'Pending', lock_by = NULL, lock_at = NULL, done_at = NULL
 WHERE id = ANY ($2) AND lock_by = $1 AND status = 'Done'
