DELETE FROM virtuozo.disk_progress WHERE guest_run_id = $1
