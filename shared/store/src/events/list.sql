-- The latest ones, oldest first. $1: smallest code; $2, $3, $4: about this run, host, guest, or NULL; $5: how many.
SELECT * FROM (
    SELECT id, at, severity, code, message, host, guest, run_id, guest_run_id, detail, trace_id
      FROM virtuozo_core.event_lines
     WHERE code >= $1
       AND ($2::uuid IS NULL OR run_id = $2)
       AND ($3::uuid IS NULL OR host_id = $3)
       AND ($4::uuid IS NULL OR guest_id = $4)
     ORDER BY id DESC
     LIMIT $5) latest
 ORDER BY id
