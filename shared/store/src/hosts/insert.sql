INSERT INTO virtuozo_core.hosts
       (id, name, kind, address, user_name, password_sealed, properties, ignored, guest_threads)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
