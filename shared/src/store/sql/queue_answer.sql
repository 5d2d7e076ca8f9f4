-- What became of a job, as apalis tells it, for as long as its claimer has it. $1: the claimer. apalis' own
-- statement for this joins with all jobs.
UPDATE apalis.jobs
   SET status = $2::jsonb ->> 'status', attempts = ($2::jsonb ->> 'attempt')::integer,
       last_result = $2::jsonb -> 'result', done_at = now()
 WHERE id = $2::jsonb ->> 'task_id' AND lock_by = $1
