-- Who changes these settings, or takes a notice, does so alone.
SELECT only_row FROM virtuozo_core.notice_settings FOR UPDATE
