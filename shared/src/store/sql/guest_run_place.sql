SELECT host_id FROM virtuozo.guest_runs WHERE id = $1 AND state = 'admitted'
