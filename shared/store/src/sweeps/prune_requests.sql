-- $1: how many at once. Who asked has the answer.
DELETE FROM virtuozo_core.requests
 WHERE id IN (SELECT id FROM virtuozo_core.requests
               WHERE ended_at < now() - interval '1 day'
               ORDER BY ended_at LIMIT $1)
