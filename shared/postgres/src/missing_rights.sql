-- What the user lacks to make schemas, tables and functions of its own, as the statements that give it.
SELECT current_user::text, current_database()::text, string_agg(x.statement, '; ' ORDER BY x.statement)
  FROM (SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user) AS statement
         WHERE NOT has_database_privilege(current_database(), 'CREATE')
        UNION ALL
        SELECT 'CREATE SCHEMA public' WHERE to_regnamespace('public') IS NULL
        UNION ALL
        SELECT format('GRANT USAGE, CREATE ON SCHEMA public TO %I', current_user)
         WHERE to_regnamespace('public') IS NULL OR NOT has_schema_privilege(to_regnamespace('public'), 'CREATE')) x
