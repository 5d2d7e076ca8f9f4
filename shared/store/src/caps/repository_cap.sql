INSERT INTO virtuozo_core.repositories (path, guest_threads) VALUES ($1, $2)
ON CONFLICT (path) DO UPDATE SET guest_threads = excluded.guest_threads
