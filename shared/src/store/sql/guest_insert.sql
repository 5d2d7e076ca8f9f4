INSERT INTO virtuozo_core.guests (id, host_id, vmx_path, name) VALUES ($1, $2, $3, $4)
