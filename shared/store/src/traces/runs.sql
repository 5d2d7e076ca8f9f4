-- Runs that have ended, with all their guest runs sent, but not themselves; whether something in them went
-- wrong, even if it was mended. $1: how many; $2: those that ended more than so many seconds ago are let be.
SELECT r.id, coalesce(r.trace_id, r.id) AS trace_id, r.trace_before, r.requested_by, r.due_at, r.state, r.error,
       greatest(r.created_at, r.trace_since) AS began_at, r.ended_at,
       (SELECT count(*) FROM virtuozo_core.guest_runs g WHERE g.run_id = r.id) AS guests,
       r.state = 'failed'
       OR EXISTS (SELECT 1 FROM virtuozo_core.host_runs h WHERE h.run_id = r.id AND (h.attempts > 0 OR h.crashes > 0 OR h.state = 'failed'))
       OR EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.run_id = r.id AND (g.attempts > 0 OR g.crashes > 0 OR g.state = 'failed'))
       AS troubled
  FROM virtuozo_core.runs r
 WHERE NOT r.traced AND r.ended_at > now() - make_interval(secs => $2)
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.run_id = r.id AND NOT g.traced)
 LIMIT $1
