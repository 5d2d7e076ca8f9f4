UPDATE virtuozo_core.guest_runs SET after_hook = true WHERE id = $1 AND fence = $2 AND state = 'running' RETURNING id
