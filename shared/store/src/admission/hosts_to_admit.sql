-- By host: each needs one look into its waiting guest runs, however many there are. The due time and the node of a guest
-- first, which cost less to know than whether anything else is in its way; guest_reason says the same of the due time.
SELECT h.host_id
  FROM virtuozo_core.ready_hosts h
 WHERE EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g
                WHERE g.host_id = h.host_id AND g.state = 'waiting' AND g.run_after <= now()
                  AND CASE WHEN EXISTS (SELECT 1 FROM virtuozo_core.guests u
                                          JOIN virtuozo_core.guest_slots s
                                            ON s.host_id = u.host_id AND s.node = coalesce(u.node, '') AND s.guest_run_id IS NULL
                                         WHERE u.id = g.guest_id)
                           THEN virtuozo_core.guest_reason(g) IS NULL END)
 LIMIT CASE WHEN virtuozo_core.has_caps() THEN 1 END
