-- A restore point found in its repository, with its guest where that is known. One whose run is not over is
-- left to that run, which publishes it itself; its guest run is not claimed, as that may still make another. $15: it is adopted at once.
INSERT INTO virtuozo_core.restore_points
       (id, guest_id, host_name, guest_name, repository, path, mode, taken_at, published_at, size_bytes,
        source_bytes, foreign_snapshots, found_at, adopted_at, manifest_blake3)
SELECT $1,
       (SELECT g.id FROM virtuozo_core.guests g JOIN virtuozo_core.hosts h ON h.id = g.host_id
         WHERE h.name = $2 AND (g.uuid = $14 OR g.locator = $3)
         ORDER BY (g.uuid = $14) IS TRUE DESC
         LIMIT 1),
       $2, $4, $5, $6, $7, $8, $9, $10, $11, $12, now(), CASE WHEN $15 THEN now() END, $16
 WHERE NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs
                    WHERE id = $13 AND state IN ('waiting', 'admitted', 'running'))
ON CONFLICT DO NOTHING
RETURNING id
