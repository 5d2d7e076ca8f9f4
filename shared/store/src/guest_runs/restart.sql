UPDATE virtuozo_core.guest_runs SET attempt_fence = fence, mode = NULL
 WHERE id = $1 AND fence = $2 AND (state = 'running') IS TRUE
RETURNING id
