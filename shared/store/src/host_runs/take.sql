-- $1: the host run, $2: who takes it. The one way into 'running'.
UPDATE virtuozo_core.host_runs h
   SET (fence, owner_id, lease_until) = (SELECT * FROM virtuozo_core.lease_taken(h.fence, $2, s.lease_secs)),
       state = 'running',
       started_at = coalesce(h.started_at, now())
  FROM virtuozo_core.settings s, virtuozo_core.runs r
 WHERE h.id = $1 AND r.id = h.run_id AND h.state = 'queued' AND h.run_after <= now()
   AND virtuozo_core.host_run_obstacle(h) IS NULL
RETURNING h.id, h.run_id, h.host_id, h.guest_ids, h.owner_id, h.fence, h.attempts, r.cancel_requested, s.lease_secs,
          coalesce(r.trace_id, r.id) AS trace_id,
          greatest(h.started_at, now() - interval '10 minutes') AS looks_count_since
