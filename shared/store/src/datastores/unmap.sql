-- One that its host never named has no other reason to be here.
WITH kept AS (
    UPDATE virtuozo_core.datastores SET local_path = NULL
     WHERE host_id = $1 AND name = $2 AND local_path IS NOT NULL AND seen_at IS NOT NULL
 RETURNING name
), gone AS (
    DELETE FROM virtuozo_core.datastores
     WHERE host_id = $1 AND name = $2 AND local_path IS NOT NULL AND seen_at IS NULL
 RETURNING name
)
SELECT name FROM kept UNION ALL SELECT name FROM gone
