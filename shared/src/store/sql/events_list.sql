-- The latest ones, oldest first. $1: smallest code; $2, $3: about this run or guest, or NULL.
SELECT * FROM (
    SELECT id, at, code, severity, message, run_id, host_id, guest_id, guest_run_id, detail
      FROM virtuozo_core.events
     WHERE code >= $1
       AND ($2::uuid IS NULL OR run_id = $2)
       AND ($3::uuid IS NULL OR guest_id = $3)
     ORDER BY id DESC
     LIMIT $4) latest
 ORDER BY id
