WITH held AS (
    UPDATE virtuozo_core.guest_runs
       SET bytes_total = (SELECT sum(n) FROM unnest($4::bigint[]) n),
           bytes_copied = (SELECT sum(n) FROM unnest($5::bigint[]) n), progress_at = now()
     WHERE id = $1 AND fence = $2 AND (state = 'running') IS TRUE
 RETURNING id
), devices AS (
    INSERT INTO virtuozo_core.disk_progress (guest_run_id, device, bytes_total, bytes_copied)
    SELECT held.id, p.device, p.bytes_total, p.bytes_copied
      FROM held, unnest($3::text[], $4::bigint[], $5::bigint[]) AS p (device, bytes_total, bytes_copied)
    ON CONFLICT (guest_run_id, device)
    DO UPDATE SET bytes_total = EXCLUDED.bytes_total, bytes_copied = EXCLUDED.bytes_copied, updated_at = now()
)
SELECT id FROM held
