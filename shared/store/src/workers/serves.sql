-- $1: the worker, $2 to $4: kinds of host, whether they are served, and what was found.
INSERT INTO virtuozo_core.worker_kinds (worker_id, kind, is_served, found)
SELECT w.id, k.kind, k.is_served, k.found
  FROM virtuozo_core.workers w
 CROSS JOIN unnest($2::text[], $3::boolean[], $4::text[]) AS k (kind, is_served, found)
 WHERE w.id = $1
ON CONFLICT (worker_id, kind) DO UPDATE
   SET is_served = EXCLUDED.is_served, found = EXCLUDED.found, looked_at = now()
