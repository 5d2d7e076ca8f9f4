-- Due host runs whose job nobody will deliver any more: it was done, dropped, or its claimer died.
SELECT h.id
  FROM virtuozo_core.host_runs h
 WHERE h.state = 'queued'
   AND h.run_after <= now()
   AND virtuozo_core.host_run_obstacle(h) IS NULL
   AND h.created_at < now() - interval '5 seconds'
   AND NOT virtuozo_core.is_on_its_way($1, h.id)
   FOR NO KEY UPDATE OF h SKIP LOCKED
