UPDATE virtuozo_core.runs SET cancel_requested = true WHERE id = $1 AND state = 'running'
