UPDATE virtuozo_core.obligations
   SET attempts = attempts + 1, last_error = $2, next_attempt_at = now() + make_interval(secs => $3)
 WHERE id = $1
RETURNING attempts
