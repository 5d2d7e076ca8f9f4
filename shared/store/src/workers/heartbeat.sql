UPDATE virtuozo_core.workers SET heartbeat_at = now()
 WHERE id = $1 AND stopped_at IS NULL
RETURNING drain_requested
