-- $1: id, $2: name or id as text; NULL: any.
SELECT id, name, kind, address, user_name, password_sealed IS NOT NULL AS has_password, config_dir, ignored,
       guest_threads, state, coalesce(virtuozo_core.down_reason(id), state_reason) AS state_reason, checked_at
  FROM virtuozo_core.hosts
 WHERE ($1::uuid IS NULL OR id = $1)
   AND ($2::text IS NULL OR name = $2 OR id::text = $2)
 ORDER BY name
