UPDATE virtuozo_core.workers SET stopped_at = now() WHERE id = $1 AND stopped_at IS NULL
