INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version) VALUES ($1, $2, $3, $4, $5, $6)
