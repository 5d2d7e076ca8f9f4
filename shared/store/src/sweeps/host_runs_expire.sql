-- Leases that ran out.
UPDATE virtuozo_core.host_runs h
   SET crashes = h.crashes + 1,
       lease_until = NULL,
       owner_id = NULL,
       state = CASE WHEN h.crashes + 1 >= s.max_crashes THEN 'failed' ELSE 'queued' END,
       ended_at = CASE WHEN h.crashes + 1 >= s.max_crashes THEN now() END,
       error = format('the worker stopped answering while it validated the host (%s of at most %s times)', h.crashes + 1, s.max_crashes),
       error_class = CASE WHEN h.crashes + 1 >= s.max_crashes THEN 'permanent' ELSE 'retry' END
  FROM virtuozo_core.settings s, virtuozo_core.hosts o
 WHERE o.id = h.host_id AND h.state = 'running'
   AND virtuozo_core.is_lost(h.lease_until, s.lease_secs)
   -- A worker that was frozen within a transaction keeps its row locked: the others do not wait for it.
   AND h.id IN (SELECT x.id FROM virtuozo_core.host_runs x
                 WHERE x.state = 'running' AND virtuozo_core.is_over(x.lease_until)
                   FOR UPDATE SKIP LOCKED)
RETURNING h.id, h.run_id, h.host_id, o.name, h.state, h.error,
          (SELECT coalesce(r.trace_id, r.id) FROM virtuozo_core.runs r WHERE r.id = h.run_id) AS trace_id
