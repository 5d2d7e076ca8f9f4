-- Back among the waiting, because its host does not answer: counts as no attempt, and what is done stays done.
-- It is due, but nothing of the host is admitted while its circuit breaker is open.
UPDATE virtuozo_core.guest_runs
   SET state = 'waiting', lease_until = NULL, owner_id = NULL, admitted_at = NULL, error = $3, error_class = $4
 WHERE id = $1 AND fence = $2 AND (state = 'running') IS TRUE
RETURNING run_id
