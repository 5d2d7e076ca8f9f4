UPDATE virtuozo_core.host_runs r
   SET state = 'failed', ended_at = now(), error = $2, error_class = $3
  FROM virtuozo_core.hosts h
 WHERE h.id = r.host_id
   AND r.id IN (SELECT x.id FROM virtuozo_core.host_runs x
                 WHERE x.host_id = $1 AND x.state = 'queued' AND NOT virtuozo_core.is_paused($1)
                 ORDER BY x.id FOR NO KEY UPDATE)
RETURNING r.id, r.run_id, r.host_id, h.name, r.state, r.error,
          (SELECT coalesce(x.trace_id, x.id) FROM virtuozo_core.runs x WHERE x.id = r.run_id) AS trace_id
