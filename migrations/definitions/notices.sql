-- Notices: what is told by mail and webhook (docs/guide/notices.md).

-- The ways of telling that are configured.
CREATE OR REPLACE FUNCTION virtuozo_core.notice_channels(s virtuozo_core.notice_settings) RETURNS SETOF text LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT 'mail' WHERE s.mail_host IS NOT NULL AND s.mail_from IS NOT NULL AND s.mail_to <> '{}'
    UNION ALL
    SELECT 'webhook' WHERE s.webhook_url IS NOT NULL;
END;
