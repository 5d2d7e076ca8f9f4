-- The caller holds the host's row lock, as admission does: no run of the guest begins meanwhile.
UPDATE virtuozo_core.obligations o
   SET claim_id = $2, claimed_until = now() + make_interval(secs => s.lease_secs)
  FROM virtuozo_core.settings s
 WHERE o.guest_id = $1
   AND o.next_attempt_at <= now()
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.obligations c WHERE c.guest_id = $1 AND NOT virtuozo_core.is_over(c.claimed_until))
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g
                    WHERE g.guest_id = $1 AND g.state IN ('admitted', 'running'))
RETURNING s.lease_secs
