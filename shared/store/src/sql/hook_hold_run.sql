SELECT virtuozo_core.hold_run($1)
