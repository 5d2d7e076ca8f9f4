-- What the last validation found is about the old configuration.
UPDATE virtuozo_core.hosts
   SET name = $2, kind = $3, address = $4, user_name = $5, config_dir = $6, ignored = $7, guest_threads = $8,
       state = 'unknown', state_reason = NULL, updated_at = now()
 WHERE id = $1
RETURNING virtuozo_core.probe_now(id)
