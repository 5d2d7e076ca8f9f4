INSERT INTO virtuozo_core.datastores AS known (host_id, name, local_path)
VALUES ($1, $2, $3)
ON CONFLICT (host_id, name) DO UPDATE SET local_path = excluded.local_path
 WHERE known.local_path IS NULL
