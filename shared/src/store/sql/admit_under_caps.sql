SELECT virtuozo_core.push_job('virtuozo-guest', 'guest_run_id', id) FROM virtuozo_core.admit_under_caps() AS a (id)
