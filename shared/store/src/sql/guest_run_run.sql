SELECT run_id FROM virtuozo_core.guest_runs WHERE id = $1
