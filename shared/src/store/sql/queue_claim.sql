-- Like apalis.get_jobs, but planned once for a connection instead of at every call, and a job is done with
-- its delivery: what is lost on the way is found by the sweep, sooner than apalis would find it.
-- $1: the claimer, $2: the queue.
WITH next AS (
    SELECT id FROM apalis.jobs
     WHERE (status = 'Pending' OR (status = 'Failed' AND attempts < max_attempts))
       AND run_at < now() AND job_type = $2
     ORDER BY priority DESC, run_at
     LIMIT 1
       FOR UPDATE SKIP LOCKED
)
UPDATE apalis.jobs j
   SET status = 'Done', lock_by = $1, lock_at = now(), done_at = now()
  FROM next
 WHERE j.id = next.id
RETURNING j.id, j.job, j.attempts
