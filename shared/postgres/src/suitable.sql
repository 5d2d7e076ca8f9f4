-- What of a server and its limits for the user decides whether a process can work with it.
SELECT pg_backend_pid() AS server_process,
       pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS is_read_only,
       x.connections AS limit, x.limited_by, x.cure
  FROM (SELECT rolconnlimit::bigint AS connections, 'the user ' || quote_ident(rolname) AS limited_by,
               format('ALTER ROLE %I CONNECTION LIMIT -1', rolname) AS cure
          FROM pg_catalog.pg_roles WHERE rolname = current_user AND NOT rolsuper AND rolconnlimit >= 0
        UNION ALL
        SELECT datconnlimit, 'the database ' || quote_ident(datname), format('ALTER DATABASE %I CONNECTION LIMIT -1', datname)
          FROM pg_catalog.pg_database
         WHERE datname = current_database() AND datconnlimit >= 0
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = current_user AND rolsuper)
        UNION ALL
        SELECT current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
               - coalesce(current_setting('reserved_connections', true), '0')::bigint,
               'the server', 'raise max_connections in postgresql.conf and start it again') x
 ORDER BY x.connections
 LIMIT 1
