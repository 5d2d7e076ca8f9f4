UPDATE virtuozo_core.obligations o
   SET claimed_until = now() + make_interval(secs => s.lease_secs)
  FROM virtuozo_core.settings s
 WHERE o.guest_id = $1 AND o.claim_id = $2
RETURNING false AS cancel_requested, s.lease_secs
