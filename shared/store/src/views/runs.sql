-- Runs, newest first, with what became of their guests. $1: only this one (NULL: all); $2: how many.
SELECT r.id, r.requested_by, r.due_at, r.state, r.cancel_requested, r.error, r.created_at, r.ended_at,
       (SELECT count(*) FROM virtuozo_core.host_runs h WHERE h.run_id = r.id AND h.state IN ('queued', 'running')) AS hosts_open,
       (SELECT count(*) FROM virtuozo_core.host_runs h WHERE h.run_id = r.id AND h.state = 'failed') AS hosts_failed,
       count(g.id) AS guests,
       count(g.id) FILTER (WHERE g.state IN ('waiting', 'admitted', 'running')) AS guests_open,
       count(g.id) FILTER (WHERE g.state = 'succeeded') AS guests_succeeded,
       count(g.id) FILTER (WHERE g.state = 'failed') AS guests_failed,
       coalesce(sum(g.bytes_copied), 0)::bigint AS bytes_copied,
       virtuozo_core.trace_hex(coalesce(r.trace_id, r.id)) AS trace_id
FROM virtuozo_core.runs r
LEFT JOIN virtuozo_core.guest_runs g ON g.run_id = r.id
WHERE $1::uuid IS NULL OR r.id = $1
GROUP BY r.id
ORDER BY r.created_at DESC
LIMIT $2
