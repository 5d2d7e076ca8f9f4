-- The owner too: after a failover to a server that had missed the taking, a fence may have been given twice.
UPDATE virtuozo_core.guest_runs g
   SET lease_until = now() + make_interval(secs => s.lease_secs)
  FROM virtuozo_core.settings s, virtuozo_core.runs r
 WHERE g.id = $1 AND g.fence = $2 AND g.owner_id = $3 AND (g.state = 'running') IS TRUE AND r.id = g.run_id
RETURNING r.cancel_requested OR g.cancel_requested AS cancel_requested, s.lease_secs
