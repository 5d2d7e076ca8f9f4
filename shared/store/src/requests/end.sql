-- $3: succeeded with the answer $4, or failed with the reason $5 of the class $6.
UPDATE virtuozo_core.requests
   SET state = $3, lease_until = NULL, owner_id = NULL, ended_at = now(), answer = $4, error = $5, error_class = $6
 WHERE id = $1 AND fence = $2 AND state = 'running'
