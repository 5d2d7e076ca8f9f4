-- Due host runs whose job nobody will deliver any more: it was done, dropped, or its claimer died.
SELECT h.id
  FROM virtuozo_core.host_runs h
 WHERE h.state = 'queued'
   AND h.run_after <= now()
   AND NOT virtuozo_core.is_paused(h.host_id)
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.shut_hosts x WHERE x.host_id = h.host_id)
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.held_runs x WHERE x.run_id = h.run_id)
   AND h.created_at < now() - interval '5 seconds'
   AND NOT virtuozo_core.is_on_its_way($1, 'host_run_id', h.id)
   FOR NO KEY UPDATE OF h SKIP LOCKED
