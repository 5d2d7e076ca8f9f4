-- The first who uses a path says which repository lies there; the others get that answer.
INSERT INTO virtuozo_core.repository_ids (path, id) VALUES ($1, $2)
ON CONFLICT (path) DO UPDATE SET path = excluded.path
RETURNING id
