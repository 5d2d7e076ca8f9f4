INSERT INTO virtuozo_core.guests (id, host_id, locator, name, configured, state)
VALUES ($1, $2, $3, $4, $5, CASE WHEN $5 THEN 'unknown' ELSE 'not_configured' END)
