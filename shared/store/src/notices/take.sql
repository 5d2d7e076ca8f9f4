-- $2: who takes it.
UPDATE virtuozo_core.notices n
   SET (fence, owner_id, lease_until) = (SELECT * FROM virtuozo_core.lease_taken(n.fence, $2, s.lease_secs)),
       state = 'sending', attempts = n.attempts + 1
  FROM virtuozo_core.settings s
 WHERE n.id = $1
   AND ((n.state = 'waiting' AND n.run_after <= now())
        OR (n.state = 'sending' AND virtuozo_core.is_over(n.lease_until)))
RETURNING n.id, n.kind, n.channel, n.run_id, n.due_at, n.fence, n.owner_id, n.attempts, n.sent_to, n.refused_to,
          s.lease_secs
