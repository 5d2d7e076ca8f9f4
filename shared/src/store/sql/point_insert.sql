INSERT INTO virtuozo_core.restore_points
       (id, guest_id, guest_run_id, host_name, guest_name, repository, path, mode, taken_at, size_bytes, source_bytes, foreign_snapshots, verified_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, CASE WHEN $13 THEN now() END)
