-- $1: the worker, $2 and $3: the queue and the subject of the job in which something is missing, $4: the location that is, or
-- NULL, $5: what is wrong. A location that the job did not name is noted as something of its host: its next job names no other.
INSERT INTO virtuozo_core.missing_capabilities (worker_id, host_id, location, reason)
SELECT w.id, CASE WHEN l.location IS NULL THEN n.host_id END, l.location, $5
  FROM virtuozo_core.workers w
 CROSS JOIN virtuozo_core.job_needs($2, $3) n
 CROSS JOIN LATERAL (SELECT CASE WHEN $4 = ANY (n.locations) THEN $4 END AS location) l
 WHERE w.id = $1 AND n.host_id IS NOT NULL
ON CONFLICT (worker_id, host_id, location) DO UPDATE SET reason = EXCLUDED.reason, noted_at = now()
