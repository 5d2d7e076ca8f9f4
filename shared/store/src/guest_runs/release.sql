-- Handed over by a worker that stops: keeps its slot, counts as no attempt.
UPDATE virtuozo_core.guest_runs
   SET state = 'admitted', lease_until = NULL, owner_id = NULL, admitted_at = now(),
       attempt_fence = CASE WHEN $3 THEN attempt_fence END
 WHERE id = $1 AND fence = $2 AND (state = 'running') IS TRUE
RETURNING run_id
