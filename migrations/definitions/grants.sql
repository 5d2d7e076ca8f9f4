-- Makes the two roles where they lack and this user may make them, and gives them their rights. Roles belong to the whole
-- server, so two databases may do this at the same time. Who makes a role by hand calls it again.
CREATE OR REPLACE FUNCTION virtuozo_core.grant_roles() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    role text;
BEGIN
    -- Functions are open to everybody who reaches their schema, unless that is taken away.
    REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA virtuozo FROM PUBLIC;
    FOREACH role IN ARRAY ARRAY['virtuozo_read', 'virtuozo_operator'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    RAISE NOTICE 'the role % is missing and cannot be made by %: make it, then call virtuozo_core.grant_roles()', role, current_user;
            END;
        END IF;
        IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('GRANT USAGE ON SCHEMA virtuozo TO %I', role);
            EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA virtuozo TO %I', role);
        END IF;
    END LOOP;
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'virtuozo_operator') THEN
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA virtuozo TO virtuozo_operator;
    END IF;
END $$;

SELECT virtuozo_core.grant_roles();
