-- Admitted guest runs whose job nobody will deliver any more: it was done, dropped, or its claimer died.
SELECT g.id
  FROM virtuozo_core.guest_runs g
 WHERE g.state = 'admitted'
   AND g.admitted_at < now() - interval '5 seconds'
   AND NOT virtuozo_core.is_on_its_way($1, g.id)
   FOR NO KEY UPDATE OF g SKIP LOCKED
