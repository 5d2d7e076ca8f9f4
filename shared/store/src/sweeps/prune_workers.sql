DELETE FROM virtuozo_core.workers
 WHERE heartbeat_at < now() - interval '1 day' OR stopped_at < now() - interval '1 day'
