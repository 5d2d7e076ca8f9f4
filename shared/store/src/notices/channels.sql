SELECT c.channel
  FROM virtuozo_core.notice_settings s
 CROSS JOIN LATERAL virtuozo_core.notice_channels(s) c (channel)
