-- Runs that began or ended between $1 and $2, or are still in work.
SELECT id FROM virtuozo_core.runs
 WHERE created_at <= $2 AND (created_at > $1 OR ended_at > $1 OR state = 'running')
 ORDER BY created_at DESC
 LIMIT 200
