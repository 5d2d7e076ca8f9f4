-- Not more often than every half a minute: workers that publish at the same time do not wait for each other.
INSERT INTO virtuozo_core.repository_space (path, free_bytes) VALUES ($1, $2)
ON CONFLICT (path) DO UPDATE SET free_bytes = $2, seen_at = now()
 WHERE repository_space.seen_at < now() - interval '30 seconds'
