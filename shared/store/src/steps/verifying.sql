-- How much of the copy has been read back. $1: the guest run, $2: its fence, $3: bytes so far, $4: of how many.
WITH held AS (
    UPDATE virtuozo_core.guest_runs SET progress_at = now()
     WHERE id = $1 AND fence = $2 AND (state = 'running') IS TRUE
 RETURNING id
)
UPDATE virtuozo_core.steps s
   SET output = jsonb_build_object('bytes_read', $3::bigint, 'bytes_total', $4::bigint)
  FROM held
 WHERE s.guest_run_id = held.id AND s.fence = $2 AND s.name = 'verify' AND s.state = 'running'
RETURNING held.id
