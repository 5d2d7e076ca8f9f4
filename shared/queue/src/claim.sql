-- Like apalis.get_jobs, but planned once for a connection instead of at every call, and a job is done with
-- its delivery: what is lost on the way is found by the sweep, sooner than apalis would find it. As an array:
-- jobs are found by their key, however many the planner expects.
-- A worker that was asked to drain claims nothing more, whether it has learned of it or not.
-- What the claimer's machine lacks is looked up once; whether others may have it is asked only for jobs that need any of that.
-- $1: the claimer, $2: the queue, $3: how many at most, $4: the kinds of host that the claimer serves, and '', $5: its worker.
WITH next AS (
    SELECT id FROM apalis.jobs
     WHERE (status = 'Pending' OR (status = 'Failed' AND attempts < max_attempts))
       AND run_at < now() AND job_type = $2 AND needs_kind = ANY ($4)
       AND NOT EXISTS (SELECT FROM virtuozo_core.workers w WHERE w.id = $5 AND w.drain_requested)
       AND CASE WHEN needs_host = ANY (ARRAY(SELECT x.host_id FROM virtuozo_core.lacks x WHERE x.worker_id = $5))
                  OR needs_locations && ARRAY(SELECT x.location FROM virtuozo_core.lacks x WHERE x.worker_id = $5)
                THEN NOT virtuozo_core.leaves_to_others($5, needs_kind, needs_host, needs_locations)
                ELSE true END
     ORDER BY priority DESC, run_at
     LIMIT $3
       FOR UPDATE SKIP LOCKED
)
UPDATE apalis.jobs
   SET status = 'Done', lock_by = $1, lock_at = now(), done_at = now()
 WHERE id = ANY (ARRAY(SELECT next.id FROM next))
RETURNING id, job, attempts
