SELECT host_id FROM virtuozo_core.guest_runs WHERE id = $1 AND state = 'admitted'
