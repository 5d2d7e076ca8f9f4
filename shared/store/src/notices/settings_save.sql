-- $1: the settings as JSON. With another time the digest is due from now on: the past is not caught up.
UPDATE virtuozo_core.notice_settings s
   SET mail_host = n.mail_host, mail_port = n.mail_port, mail_security = n.mail_security,
       allow_unencrypted = n.allow_unencrypted, mail_user = n.mail_user, mail_from = n.mail_from,
       mail_to = n.mail_to, webhook_url = n.webhook_url, ca_file = n.ca_file, on_failure = n.on_failure,
       on_success = n.on_success, digest_time = n.digest_time, digest_time_zone = n.digest_time_zone,
       digest_done_until = CASE WHEN (s.digest_time, s.digest_time_zone) IS DISTINCT FROM (n.digest_time, n.digest_time_zone)
                                THEN greatest(s.digest_done_until, now()) ELSE s.digest_done_until END,
       group_secs = n.group_secs, messages_per_hour = n.messages_per_hour, updated_at = now()
  FROM jsonb_populate_record(NULL::virtuozo_core.notice_settings, $1) n
