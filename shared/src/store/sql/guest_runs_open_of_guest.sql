-- Which attempts of a guest may still need what they copied.
SELECT id, attempt_fence FROM virtuozo.guest_runs
 WHERE guest_id = $1 AND state IN ('waiting', 'admitted', 'running') AND attempt_fence IS NOT NULL
