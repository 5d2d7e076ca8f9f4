SELECT id, name, kind, address, user_name, password_sealed IS NOT NULL AS has_password, config_dir, ignored,
       guest_threads, state, state_reason, checked_at
  FROM virtuozo.hosts
 ORDER BY name
