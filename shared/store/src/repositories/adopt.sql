-- Says which repository lies at a path from now on. Returns which it was before.
WITH before AS (
    SELECT id FROM virtuozo_core.repository_ids WHERE path = $1
), now AS (
    INSERT INTO virtuozo_core.repository_ids (path, id) VALUES ($1, $2)
    ON CONFLICT (path) DO UPDATE SET id = excluded.id, known_at = now()
)
SELECT (SELECT id FROM before)
