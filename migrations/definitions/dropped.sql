-- What earlier generations had and this one has not, as DROP takes it: 'FUNCTION IF EXISTS virtuozo_core.name(uuid)'. A
-- worker of the generation before may still use it, so it is named here one generation after it left its topic's file.
-- Nothing is dropped that views of an operator's own use.

DO $$
DECLARE
    what text;
BEGIN
    FOREACH what IN ARRAY ARRAY[]::text[] LOOP
        BEGIN
            EXECUTE 'DROP ' || what;
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE WARNING 'what is no longer part of Virtuozo stays, because something else uses it: %', sqlerrm;
        END;
    END LOOP;
END $$;
