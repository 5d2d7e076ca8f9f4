-- Queued again, because the host does not answer: counts as no attempt. The sweep pushes its job when the
-- circuit breaker is no longer open.
UPDATE virtuozo_core.host_runs
   SET state = 'queued', lease_until = NULL, owner_id = NULL, error = $3, error_class = $4
 WHERE id = $1 AND fence = $2 AND state = 'running'
RETURNING run_id
