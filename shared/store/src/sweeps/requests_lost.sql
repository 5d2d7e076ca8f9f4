-- Requests whose job nobody will deliver any more: it was done, dropped, or its claimer died.
SELECT q.id
  FROM virtuozo_core.requests q
 WHERE q.state = 'waiting'
   AND q.asked_at < now() - interval '5 seconds'
   AND NOT virtuozo_core.is_on_its_way($1, q.id)
   FOR NO KEY UPDATE OF q SKIP LOCKED
