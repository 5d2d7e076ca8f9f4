-- By host: each needs one look into its waiting guest runs, however many there are.
SELECT h.id
  FROM virtuozo_core.hosts h
 WHERE NOT virtuozo_core.is_paused(h.id)
   AND EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s WHERE s.host_id = h.id AND s.guest_run_id IS NULL)
   AND EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g
                WHERE g.host_id = h.id AND g.state = 'waiting' AND g.run_after <= now())
 LIMIT CASE WHEN virtuozo_core.has_caps() THEN 1 END
