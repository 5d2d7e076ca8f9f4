UPDATE virtuozo_core.runs
   SET traced = true
 WHERE id = $1 AND coalesce(trace_id, id) = $2 AND ended_at IS NOT NULL
