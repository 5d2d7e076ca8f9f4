-- Leases that ran out. The run keeps
-- its slot and goes on after the steps that are done; after too many crashes it ends.
UPDATE virtuozo_core.guest_runs g
   SET crashes = g.crashes + 1,
       lease_until = NULL,
       owner_id = NULL,
       admitted_at = now(),
       state = CASE WHEN g.crashes + 1 >= s.max_crashes THEN 'failed' ELSE 'admitted' END,
       ended_at = CASE WHEN g.crashes + 1 >= s.max_crashes THEN now() END,
       error = format('the worker stopped answering in step %s (%s of at most %s times)', coalesce(g.step, 'validate'), g.crashes + 1, s.max_crashes),
       error_class = CASE WHEN g.crashes + 1 >= s.max_crashes THEN 'permanent' ELSE 'retry' END
  FROM virtuozo_core.settings s, virtuozo_core.guests u, virtuozo_core.hosts h
 WHERE u.id = g.guest_id AND h.id = g.host_id AND g.state = 'running'
   AND virtuozo_core.is_lost(g.lease_until, s.lease_secs)
   -- A worker that was frozen within a transaction keeps its row locked: the others do not wait for it.
   AND g.id IN (SELECT x.id FROM virtuozo_core.guest_runs x
                 WHERE x.state = 'running' AND virtuozo_core.is_over(x.lease_until)
                   FOR UPDATE SKIP LOCKED)
RETURNING g.id, g.run_id, g.host_id, g.guest_id, h.name || '/' || u.name AS name, g.state, g.error,
          (SELECT coalesce(r.trace_id, r.id) FROM virtuozo_core.runs r WHERE r.id = g.run_id) AS trace_id
