-- $2: who takes it; $3: the length of the lease in seconds.
UPDATE virtuozo_core.notices
   SET state = 'sending', fence = fence + 1, owner_id = $2, lease_until = now() + make_interval(secs => $3),
       attempts = attempts + 1
 WHERE id = $1
   AND ((state = 'waiting' AND run_after <= now()) OR (state = 'sending' AND virtuozo_core.is_over(lease_until)))
RETURNING id, kind, channel, run_id, due_at, fence, attempts, sent_to, refused_to
