UPDATE virtuozo.workers SET heartbeat_at = now() WHERE id = $1 AND stopped_at IS NULL
