UPDATE virtuozo_core.hosts
   SET password_sealed = $2, state = 'unknown', state_reason = NULL, updated_at = now()
 WHERE id = $1
RETURNING virtuozo_core.probe_now(id)
