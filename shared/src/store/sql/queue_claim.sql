-- What apalis.get_jobs does, as a statement that is planned once for a connection instead of at every call.
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
   SET status = 'Queued', lock_by = $1, lock_at = now()
  FROM next
 WHERE j.id = next.id
RETURNING j.id, j.job, j.attempts
