-- Leases that ran out.
UPDATE virtuozo_core.requests q
   SET crashes = q.crashes + 1,
       lease_until = NULL,
       owner_id = NULL,
       state = CASE WHEN q.crashes + 1 >= s.max_crashes THEN 'failed' ELSE 'waiting' END,
       ended_at = CASE WHEN q.crashes + 1 >= s.max_crashes THEN now() END,
       error = CASE WHEN q.crashes + 1 >= s.max_crashes
                    THEN format('%s workers stopped answering while they did it, the last was %s: look at their logs',
                                q.crashes + 1, coalesce(q.taken_by, 'one that is not known')) END,
       error_class = CASE WHEN q.crashes + 1 >= s.max_crashes THEN 'permanent' END
  FROM virtuozo_core.settings s
 WHERE q.state = 'running'
   AND virtuozo_core.is_lost(q.lease_until, s.lease_secs)
   -- A worker that was frozen within a transaction keeps its row locked: the others do not wait for it.
   AND q.id IN (SELECT x.id FROM virtuozo_core.requests x
                 WHERE x.state = 'running' AND virtuozo_core.is_over(x.lease_until)
                   FOR UPDATE SKIP LOCKED)
RETURNING q.id, q.state
