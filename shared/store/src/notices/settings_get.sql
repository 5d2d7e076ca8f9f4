SELECT mail_host, mail_port, mail_security, allow_unencrypted, mail_user,
       mail_password_sealed IS NOT NULL AS has_mail_password, mail_from, mail_to, webhook_url,
       webhook_secret_sealed IS NOT NULL AS has_webhook_secret, ca_file, on_failure, on_success,
       digest_time, digest_time_zone, digest_done_until, group_secs, messages_per_hour
  FROM virtuozo_core.notice_settings
