-- `lost` stands before this, by the macro of this name in leases.rs.
UPDATE virtuozo_core.host_runs h
   SET crashes = lost.crashes, lease_until = NULL, owner_id = NULL,
       state = CASE WHEN lost.is_last THEN 'failed' ELSE 'queued' END,
       ended_at = CASE WHEN lost.is_last THEN now() END,
       error = format('the worker stopped answering while it validated the host (%s of at most %s times)',
                      lost.crashes, lost.max_crashes),
       error_class = CASE WHEN lost.is_last THEN 'permanent' ELSE 'retry' END
  FROM lost, virtuozo_core.hosts o
 WHERE h.id = lost.id AND o.id = h.host_id
   -- The state once more: the rows are found among what is in work, whatever the plan.
   AND h.state = 'running'
RETURNING h.id, h.run_id, h.host_id, o.name, h.state, h.error,
          (SELECT coalesce(r.trace_id, r.id) FROM virtuozo_core.runs r WHERE r.id = h.run_id) AS trace_id
