-- $1: id, $2: name or id as text; NULL: any.
SELECT h.id, h.name, h.kind, h.address, h.user_name, h.password_sealed IS NOT NULL AS has_password, h.properties, h.ignored,
       h.guest_threads, h.state, coalesce(virtuozo_core.down_reason(h.id), h.state_reason) AS state_reason, h.checked_at,
       p.since AS paused_since, p.by AS paused_by, coalesce(p.with_all, false) AS paused_with_all
  FROM virtuozo_core.hosts h
  LEFT JOIN virtuozo_core.paused_hosts p ON p.host_id = h.id
 WHERE ($1::uuid IS NULL OR h.id = $1)
   AND ($2::text IS NULL OR h.name = $2 OR h.id::text = $2)
 ORDER BY h.name
