-- What the snapshot $6 did not see and $7 does, beyond the event with transaction $8 and number $9. $1 to $5 as
-- in events_list.sql.
SELECT id, at, severity, code, message, host, guest, run_id, guest_run_id, detail, trace_id, xact::text::bigint AS xact
  FROM virtuozo_core.event_lines
 WHERE code >= $1
   AND ($2::uuid IS NULL OR run_id = $2)
   AND ($3::uuid IS NULL OR host_id = $3)
   AND ($4::uuid IS NULL OR guest_id = $4)
   AND xact >= greatest(pg_snapshot_xmin($6::text::pg_snapshot), $8::bigint::text::xid8)
   AND NOT pg_visible_in_snapshot(xact, $6::text::pg_snapshot)
   AND pg_visible_in_snapshot(xact, $7::text::pg_snapshot)
   AND (xact, id) > ($8::bigint::text::xid8, $9::bigint)
 ORDER BY event_lines.xact, id -- the column, in the order of its index; not what it is called above
 LIMIT $5
