-- Due from now on: that they waited until now is nobody's fault.
UPDATE virtuozo_core.host_runs SET run_after = now() WHERE run_id = $1 AND state = 'queued' RETURNING id
