UPDATE virtuozo_core.event_forwarder
   SET since = $1::text::pg_snapshot, until = $2::text::pg_snapshot, last_xact = $3, last_id = $4, max_id = $5,
       version = version + 1
 WHERE version = $6
