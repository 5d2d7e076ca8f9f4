-- $3: the new state; $4: seconds until the next attempt, of one that waits; $5, $6: who has got it, who was refused; $7: why.
UPDATE virtuozo_core.notices
   SET state = $3::text, lease_until = NULL, owner_id = NULL, ended_at = CASE WHEN $3 = 'waiting' THEN NULL ELSE now() END,
       run_after = now() + make_interval(secs => $4), sent_to = $5, refused_to = $6, last_error = $7
 WHERE id = $1 AND fence = $2 AND state = 'sending'
RETURNING id
