INSERT INTO virtuozo_core.datastores (host_id, name, local_path)
VALUES ($1, $2, $3)
ON CONFLICT (host_id, name) DO UPDATE SET local_path = excluded.local_path
