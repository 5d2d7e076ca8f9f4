-- A step's output, the begin of the next, and what else is known with it, all or none: without the fence
-- nothing happens. $7 to $9: how far the copy is, by device; $10 and $11: obligations that were seen to be
-- met, each with the fence that it had then, as a newer run may have renewed it. Rows are named by the
-- parameters, not by what is held: then every plan finds them by their whole key, also one made of empty tables.
WITH held AS (
    UPDATE virtuozo_core.guest_runs
       SET step = coalesce($5, step), mode = coalesce($6, mode),
           bytes_total = coalesce((SELECT sum(n) FROM unnest($8::bigint[]) n), bytes_total),
           bytes_copied = coalesce((SELECT sum(n) FROM unnest($9::bigint[]) n), bytes_copied),
           progress_at = CASE WHEN cardinality($7::text[]) > 0 THEN now() ELSE progress_at END
     WHERE id = $1 AND fence = $2 AND state = 'running'
 RETURNING id, owner_id
), next AS (
    INSERT INTO virtuozo_core.steps (guest_run_id, fence, name, worker_id)
    SELECT id, $2, $5, owner_id FROM held WHERE $5 IS NOT NULL
    ON CONFLICT (guest_run_id, fence, name)
    DO UPDATE SET state = 'running', output = NULL, error = NULL, error_type = NULL, error_code = NULL, started_at = now(), ended_at = NULL
), devices AS (
    INSERT INTO virtuozo_core.disk_progress (guest_run_id, device, bytes_total, bytes_copied)
    SELECT held.id, p.device, p.bytes_total, p.bytes_copied
      FROM held, unnest($7::text[], $8::bigint[], $9::bigint[]) AS p (device, bytes_total, bytes_copied)
    ON CONFLICT (guest_run_id, device)
    DO UPDATE SET bytes_total = EXCLUDED.bytes_total, bytes_copied = EXCLUDED.bytes_copied, updated_at = now()
), met AS (
    DELETE FROM virtuozo_core.obligations o
     USING held, unnest($10::uuid[], $11::bigint[]) AS m (id, fence)
     WHERE o.id = m.id AND o.guest_run_id = $1 AND o.fence = m.fence
)
UPDATE virtuozo_core.steps s
   SET state = 'done', output = $4, ended_at = now()
  FROM held
 WHERE s.guest_run_id = $1 AND s.fence = $2 AND s.name = $3
RETURNING s.name
