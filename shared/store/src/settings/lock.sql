-- Who changes settings does so alone: the change is read, made and written.
SELECT only_row FROM virtuozo_core.settings FOR UPDATE
