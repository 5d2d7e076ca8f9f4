DELETE FROM virtuozo_core.disk_progress WHERE guest_run_id = $1
