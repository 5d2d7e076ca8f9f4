SELECT r.id
  FROM virtuozo_core.runs r
 WHERE r.state = 'running'
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.host_runs h WHERE h.run_id = r.id AND h.state IN ('queued', 'running'))
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.run_id = r.id AND g.state IN ('waiting', 'admitted', 'running'))
