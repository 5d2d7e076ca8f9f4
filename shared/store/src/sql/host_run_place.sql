SELECT host_id
  FROM virtuozo_core.host_runs h
 WHERE id = $1 AND state = 'queued' AND NOT virtuozo_core.is_paused(host_id)
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.shut_hosts x WHERE x.host_id = h.host_id)
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.held_runs x WHERE x.run_id = h.run_id)
