-- By host: each needs one look into its waiting guest runs, however many there are.
SELECT h.host_id
  FROM virtuozo_core.ready_hosts h
 WHERE EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g
                WHERE g.host_id = h.host_id AND g.state = 'waiting' AND g.run_after <= now()
                  AND virtuozo_core.guest_reason(g) IS NULL)
 LIMIT CASE WHEN virtuozo_core.has_caps() THEN 1 END
