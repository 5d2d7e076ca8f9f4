-- Triggers. Making one locks its table against everybody who writes, so one that is there already as it should be is
-- left alone. The texts are those of pg_get_triggerdef.

DO $$
DECLARE
    definition text;
BEGIN
    FOREACH definition IN ARRAY ARRAY[
        'CREATE TRIGGER virtuozo_guard BEFORE INSERT OR UPDATE ON apalis.jobs '
        'FOR EACH ROW EXECUTE FUNCTION virtuozo_core.guard_job()',

        'CREATE TRIGGER virtuozo_describe BEFORE INSERT ON apalis.jobs '
        'FOR EACH ROW EXECUTE FUNCTION virtuozo_core.describe_job()',

        'CREATE TRIGGER virtuozo_hook AFTER UPDATE OF state ON virtuozo_core.runs '
        'FOR EACH ROW WHEN ((((old.state)::text = ''running''::text) AND ((new.state)::text <> ''running''::text))) '
        'EXECUTE FUNCTION virtuozo_core.hook_after_run()',

        'CREATE TRIGGER virtuozo_hook AFTER UPDATE OF state ON virtuozo_core.guest_runs '
        'FOR EACH ROW WHEN ((new.after_hook AND (old.ended_at IS NULL) AND (new.ended_at IS NOT NULL))) '
        'EXECUTE FUNCTION virtuozo_core.hook_after_guest_run()',

        'CREATE TRIGGER slot_is_left AFTER UPDATE OF guest_run_id ON virtuozo_core.guest_slots '
        'FOR EACH ROW WHEN (((old.guest_run_id IS NOT NULL) AND (new.guest_run_id IS NULL))) '
        'EXECUTE FUNCTION virtuozo_core.slot_is_left()',

        'CREATE TRIGGER virtuozo_changed AFTER UPDATE OF state ON virtuozo_core.requests '
        'FOR EACH ROW WHEN (((old.state)::text IS DISTINCT FROM (new.state)::text)) '
        'EXECUTE FUNCTION virtuozo_core.request_changed()'
    ] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE NOT t.tgisinternal AND pg_get_triggerdef(t.oid) = definition) THEN
            EXECUTE replace(definition, 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER');
        END IF;
    END LOOP;
END $$;
