INSERT INTO virtuozo.guests (id, host_id, vmx_path, name, configured, state)
VALUES ($1, $2, $3, $4, $5, $6)
