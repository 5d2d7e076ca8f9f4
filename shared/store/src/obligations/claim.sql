-- The caller holds the host's row lock, as admission does: no run of the guest begins meanwhile. One lease for all
-- obligations of the guest, with one fence.
UPDATE virtuozo_core.obligations o
   SET (fence, owner_id, lease_until) = (SELECT * FROM virtuozo_core.lease_taken(
           (SELECT max(c.fence) FROM virtuozo_core.obligations c WHERE c.guest_id = $1), $2, s.lease_secs))
  FROM virtuozo_core.settings s
 WHERE o.guest_id = $1
   AND o.next_attempt_at <= now()
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.obligations c WHERE c.guest_id = $1 AND virtuozo_core.is_held(c.lease_until))
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g
                    WHERE g.guest_id = $1 AND g.state IN ('admitted', 'running'))
RETURNING o.fence, s.lease_secs
