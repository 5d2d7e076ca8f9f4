-- $1: the guest; NULL: the whole site.
INSERT INTO virtuozo_core.hooks (guest_id, moment, command, limit_secs, on_failure)
VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (guest_id, moment)
    DO UPDATE SET command = excluded.command, limit_secs = excluded.limit_secs, on_failure = excluded.on_failure, updated_at = now()
