-- `lost` stands before this, by the macro of this name in leases.rs.
UPDATE virtuozo_core.requests q
   SET crashes = lost.crashes, lease_until = NULL, owner_id = NULL,
       state = CASE WHEN lost.is_last THEN 'failed' ELSE 'waiting' END,
       ended_at = CASE WHEN lost.is_last THEN now() END,
       error = CASE WHEN lost.is_last
                    THEN format('%s workers stopped answering while they did it, the last was %s: look at their logs',
                                lost.crashes, coalesce(q.taken_by, 'one that is not known')) END,
       error_class = CASE WHEN lost.is_last THEN 'permanent' END
  FROM lost
 WHERE q.id = lost.id
   -- The state once more: the rows are found among what is in work, whatever the plan.
   AND q.state = 'running'
RETURNING q.id, q.state
