UPDATE virtuozo_core.guest_runs g
   SET traced = true
  FROM unnest($1::uuid[], $2::bigint[]) AS sent (id, fence)
 WHERE g.id = sent.id AND g.fence = sent.fence AND g.ended_at IS NOT NULL
