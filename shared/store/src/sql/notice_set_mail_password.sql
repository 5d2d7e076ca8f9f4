UPDATE virtuozo_core.notice_settings SET mail_password_sealed = $1, updated_at = now()
