-- Back among the waiting, without a slot. With $6 the next taker goes on after the steps that are done,
-- otherwise it begins afresh.
UPDATE virtuozo_core.guest_runs
   SET state = 'waiting', lease_until = NULL, owner_id = NULL, admitted_at = NULL, attempts = attempts + 1,
       run_after = now() + make_interval(secs => $3), error = $4, error_class = $5,
       attempt_fence = CASE WHEN $6 THEN attempt_fence END
 WHERE id = $1 AND fence = $2 AND (state = 'running') IS TRUE
RETURNING run_id, host_id
