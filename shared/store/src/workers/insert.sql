-- $7 to $9: kinds of host, whether they are served, and what was found.
WITH worker AS (
    INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version) VALUES ($1, $2, $3, $4, $5, $6)
)
INSERT INTO virtuozo_core.worker_kinds (worker_id, kind, is_served, found)
SELECT $1, k.kind, k.is_served, k.found FROM unnest($7::text[], $8::boolean[], $9::text[]) AS k (kind, is_served, found)
