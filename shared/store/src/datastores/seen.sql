-- What the host's configuration names now. Mappings stay; what is neither named nor mapped goes.
WITH gone AS (
    DELETE FROM virtuozo_core.datastores
     WHERE host_id = $1 AND local_path IS NULL AND name <> ALL ($2::text[])
)
INSERT INTO virtuozo_core.datastores (host_id, name, host_path, seen_at)
SELECT $1, name, host_path, now()
  FROM unnest($2::text[], $3::text[]) AS seen (name, host_path)
ON CONFLICT (host_id, name) DO UPDATE SET host_path = excluded.host_path, seen_at = excluded.seen_at
