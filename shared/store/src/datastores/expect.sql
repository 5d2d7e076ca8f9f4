INSERT INTO virtuozo_core.datastores (host_id, name) VALUES ($1, $2)
ON CONFLICT (host_id, name) DO NOTHING
