-- What the attempts at the guests of one run did, in order. $1: the run.
SELECT s.guest_run_id, s.fence, s.name, s.state, s.error, s.started_at, s.ended_at
FROM virtuozo_core.steps s
JOIN virtuozo_core.guest_runs gr ON gr.id = s.guest_run_id
WHERE gr.run_id = $1
ORDER BY s.started_at, s.fence
