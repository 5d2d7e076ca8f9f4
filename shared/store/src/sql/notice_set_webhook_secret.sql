UPDATE virtuozo_core.notice_settings SET webhook_secret_sealed = $1, updated_at = now()
