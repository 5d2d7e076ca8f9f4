-- Requests: who waits for one is told of each change of its state.

CREATE OR REPLACE FUNCTION virtuozo_core.request_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('virtuozo::request', new.id::text);
    RETURN NULL;
END $$;
