INSERT INTO virtuozo_core.events (code, severity, message, run_id, host_id, guest_id, guest_run_id, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
