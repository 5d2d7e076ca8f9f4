-- `lost` stands before this, by the macro of this name in leases.rs. The run keeps its slot and goes on after the steps that are
-- done; after too many crashes it ends.
UPDATE virtuozo_core.guest_runs g
   SET crashes = lost.crashes, lease_until = NULL, owner_id = NULL, admitted_at = now(),
       state = CASE WHEN lost.is_last THEN 'failed' ELSE 'admitted' END,
       ended_at = CASE WHEN lost.is_last THEN now() END,
       error = format('the worker stopped answering in step %s (%s of at most %s times)', coalesce(g.step, 'validate'),
                      lost.crashes, lost.max_crashes),
       error_class = CASE WHEN lost.is_last THEN 'permanent' ELSE 'retry' END
  FROM lost, virtuozo_core.guests u, virtuozo_core.hosts h
 WHERE g.id = lost.id AND u.id = g.guest_id AND h.id = g.host_id
   -- The state once more: the rows are found among what is in work, whatever the plan.
   AND g.state = 'running'
RETURNING g.id, g.run_id, g.host_id, g.guest_id, h.name || '/' || u.name AS name, g.state, g.error,
          (SELECT coalesce(r.trace_id, r.id) FROM virtuozo_core.runs r WHERE r.id = g.run_id) AS trace_id
