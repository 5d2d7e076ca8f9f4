-- Who asks, and who owns the tables.
SELECT current_user::text, t.tableowner::text
  FROM pg_catalog.pg_tables t
 WHERE t.schemaname = 'virtuozo_core' AND t.tablename = 'settings'
