SELECT g.run_id, virtuozo_core.push_job('virtuozo-guest', 'guest_run_id', g.id)
  FROM virtuozo_core.admit_under_caps() AS a (id)
  JOIN virtuozo_core.guest_runs g USING (id)
