-- The restore point, its step, its event and its guest run, all or none: without the fence nothing happens.
-- The slot goes to the guests that may come next: their runs are returned, and the guest's earlier restore points.
WITH ended AS (
    UPDATE virtuozo_core.guest_runs
       SET state = 'succeeded', lease_until = NULL, owner_id = NULL, ended_at = now(), error = NULL, error_class = NULL
     WHERE id = $1 AND fence = $2 AND (state = 'running') IS TRUE
 RETURNING id, run_id, host_id, guest_id
), step AS (
    UPDATE virtuozo_core.steps s
       SET state = 'done', output = jsonb_build_object('point_id', $3::uuid, 'path', $7::text), ended_at = now()
      FROM ended
     WHERE s.guest_run_id = $1 AND s.fence = $2 AND s.name = 'publish'
), point AS (
    INSERT INTO virtuozo_core.restore_points
           (id, guest_id, guest_run_id, host_name, guest_name, repository, path, mode, taken_at, size_bytes,
            source_bytes, foreign_snapshots, verified_at, read_back, manifest_blake3)
    SELECT $3, guest_id, id, $4, $5, $6, $7, $8, $9, $10, $11, $12, CASE WHEN $13 THEN now() END, $18, $19 FROM ended
), told AS (
    INSERT INTO virtuozo_core.events (code, severity, message, run_id, host_id, guest_id, guest_run_id, detail)
    SELECT $14, $15, $16, run_id, host_id, guest_id, id, $17 FROM ended
)
SELECT ARRAY(SELECT virtuozo_core.admit(ended.host_id, ended.id)),
       (SELECT coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'host_name', p.host_name, 'guest_name', p.guest_name,
                   'repository', p.repository, 'path', p.path, 'taken_at', p.taken_at, 'entry_number', p.entry_number,
                   'counts', virtuozo_core.can_cover(p),
                   'ours', p.found_at IS NULL OR p.adopted_at IS NOT NULL, 'state', p.state, 'manifest_blake3', p.manifest_blake3)), '[]')
          FROM virtuozo_core.restore_points p WHERE p.guest_id = ended.guest_id),
       now()
  FROM ended
