-- It begins with what happens from now on.
INSERT INTO virtuozo_core.event_forwarder (since, max_id)
SELECT pg_current_snapshot(), coalesce(max(id), 0) FROM virtuozo_core.events
ON CONFLICT DO NOTHING
