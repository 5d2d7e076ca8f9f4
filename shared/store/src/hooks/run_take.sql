-- $1: of guests, or of the site; $2: who takes it. Its lease may have run out: then it was begun before, and its
-- owner is gone. What comes after a run waits for what comes after the guests of that run.
UPDATE virtuozo_core.hook_runs k
   SET (fence, owner_id, lease_until) = (SELECT * FROM virtuozo_core.lease_taken(k.fence, $2, s.lease_secs)),
       state = 'running', ran_by = $2, crashes = k.crashes + CASE k.state WHEN 'running' THEN 1 ELSE 0 END, started_at = now()
  FROM virtuozo_core.settings s
 WHERE k.id = (SELECT x.id
                 FROM virtuozo_core.hook_runs x
                CROSS JOIN virtuozo_core.settings y
                WHERE (x.guest_run_id IS NOT NULL) = $1
                  AND (x.state = 'waiting'
                       OR (x.state = 'running' AND virtuozo_core.is_lost(x.lease_until, y.lease_secs)))
                  AND (x.moment = 'before' OR x.guest_run_id IS NOT NULL
                       OR NOT EXISTS (SELECT 1 FROM virtuozo_core.hook_runs o
                                       WHERE o.run_id = x.run_id AND o.guest_run_id IS NOT NULL AND o.state IN ('waiting', 'running')))
                ORDER BY x.created_at, x.id
                LIMIT 1
                  FOR UPDATE OF x SKIP LOCKED)
RETURNING k.id, k.run_id, k.guest_run_id, k.moment, k.outcome, k.command, k.limit_secs, k.on_failure, k.owner_id, k.fence,
          s.lease_secs, k.crashes >= s.max_crashes AS is_given_up
