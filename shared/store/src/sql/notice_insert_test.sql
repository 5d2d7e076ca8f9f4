INSERT INTO virtuozo_core.notices (id, kind, channel) VALUES ($1, 'test', $2)
