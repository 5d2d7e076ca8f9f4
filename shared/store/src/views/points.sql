-- Restore points, newest first. $1: only of this host, $2: only of this guest (by name; NULL: all).
SELECT id, guest_id, host_name, guest_name, repository, path, mode, taken_at, published_at, size_bytes,
       source_bytes, foreign_snapshots, state, verified_at, damage, found_at,
       adopted_at, manifest_blake3, read_back
FROM virtuozo_core.restore_points
WHERE ($1::text IS NULL OR host_name = $1) AND ($2::text IS NULL OR guest_name = $2)
ORDER BY taken_at DESC, id
