-- $1: the worker, $2: the host, $3: what is wrong.
INSERT INTO virtuozo_core.missing_capabilities (worker_id, host_id, reason)
SELECT w.id, $2, $3 FROM virtuozo_core.workers w WHERE w.id = $1
ON CONFLICT (worker_id, host_id) DO UPDATE SET reason = EXCLUDED.reason, noted_at = now()
