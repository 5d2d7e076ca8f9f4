-- A job that could not be handed over, as apalis tells it: it is delivered again, or has failed.
-- $1: the claimer.
UPDATE apalis.jobs
   SET status = $2::jsonb ->> 'status', attempts = ($2::jsonb ->> 'attempt')::integer,
       last_result = $2::jsonb -> 'result', done_at = now()
 WHERE id = $2::jsonb ->> 'task_id' AND lock_by = $1
