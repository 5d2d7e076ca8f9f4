SELECT DISTINCT g.host_id
  FROM virtuozo_core.guest_runs g
 WHERE g.state = 'waiting' AND g.run_after <= now()
   AND EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s WHERE s.host_id = g.host_id AND s.guest_run_id IS NULL)
