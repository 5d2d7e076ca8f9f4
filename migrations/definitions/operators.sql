-- What operators do (docs/guide/operate-in-sql.md). Refusals have the code object_not_in_prerequisite_state (55000), what is not
-- known no_data_found (P0002).

-- An ended run goes on. The caller holds its row.
CREATE OR REPLACE FUNCTION virtuozo_core.reopen(r virtuozo_core.runs) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF r.state = 'running' AND r.cancel_requested THEN
        RAISE EXCEPTION 'the run % is being cancelled', r.id
            USING ERRCODE = '55000', HINT = 'Try again when it has ended, or start a new run.';
    END IF;
    -- The trace of what ended is sent, or is about to be.
    UPDATE virtuozo_core.runs SET state = 'running', ended_at = NULL, error = NULL, cancel_requested = false,
           trace_before = coalesce(trace_id, id), trace_id = gen_random_uuid(), trace_since = now(), traced = false
     WHERE id = r.id AND state <> 'running';
END $$;

-- A guest run of this id goes back among the waiting, in the caller's transaction. Reopens its run.
CREATE OR REPLACE FUNCTION virtuozo_core.wait_again(guest_run uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r virtuozo_core.runs;
BEGIN
    UPDATE virtuozo_core.guest_runs
       SET state = 'waiting', ended_at = NULL, cancel_requested = false, attempts = 0, crashes = 0, run_after = now(),
           admitted_at = NULL, attempt_fence = NULL, mode = NULL, step = NULL, started_at = NULL,
           bytes_total = NULL, bytes_copied = 0, progress_at = NULL,
           trace_fence = fence, trace_since = now(), traced = false
     WHERE id = guest_run AND state IN ('failed', 'cancelled');
    -- Locked after the guest run, as those do who end one; what is read is what they have committed.
    SELECT * INTO r FROM virtuozo_core.runs
     WHERE id = (SELECT run_id FROM virtuozo_core.guest_runs WHERE id = guest_run) FOR NO KEY UPDATE;
    PERFORM virtuozo_core.reopen(r);
END $$;

-- A guest run gets another chance: one that failed or was cancelled begins afresh in its run, one that
-- waits for its next attempt does not wait any longer, one that has a slot is delivered again.
CREATE OR REPLACE FUNCTION virtuozo.requeue(guest_run_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g virtuozo_core.guest_runs;
    name text;
BEGIN
    PERFORM virtuozo_core.one_operator_at_a_time();
    -- An operator's "again" is a "now" for the host too. Circuit breakers before runs, as those lock them who give a host's runs up.
    PERFORM virtuozo_core.probe_now(x.host_id) FROM virtuozo_core.guest_runs x WHERE x.id = requeue.guest_run_id;
    SELECT * INTO g FROM virtuozo_core.guest_runs x WHERE x.id = requeue.guest_run_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no guest run %', guest_run_id
            USING ERRCODE = 'P0002', HINT = 'virtuozo.guest_runs lists them.';
    END IF;
    name := virtuozo_core.guest_name(g.guest_id);
    CASE g.state
    WHEN 'waiting' THEN
        UPDATE virtuozo_core.guest_runs SET run_after = now() WHERE id = g.id AND run_after > now();
        RETURN virtuozo_core.record_operator_event(format('guest %s: its next attempt waits for a slot only', name), g.run_id, g.host_id, g.guest_id, g.id);
    WHEN 'admitted' THEN
        PERFORM virtuozo_core.push_jobs('virtuozo-guest', ARRAY[g.id], 0);
        RETURN virtuozo_core.record_operator_event(format('guest %s: its job is delivered again', name), g.run_id, g.host_id, g.guest_id, g.id);
    WHEN 'failed', 'cancelled' THEN
        PERFORM virtuozo_core.wait_again(g.id);
        RETURN virtuozo_core.record_operator_event(format('guest %s: begins afresh in its run', name), g.run_id, g.host_id, g.guest_id, g.id);
    WHEN 'running' THEN
        RAISE EXCEPTION 'a worker works on guest % until its lease ends at %', name, g.lease_until
            USING ERRCODE = '55000', HINT = 'A silent worker is replaced by itself; virtuozo.cancel() stops a working one.';
    ELSE
        RAISE EXCEPTION 'the guest run of % is % and stays so', name, g.state
            USING ERRCODE = '55000', HINT = 'Start a new run: virtuozo run now --guest HOST/GUEST.';
    END CASE;
END $$;

-- Everything in a run that failed gets another chance: guests, and hosts that could not be validated. A run that failed
-- because of the command before it begins with that command again.
CREATE OR REPLACE FUNCTION virtuozo.retry_failed(run_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r virtuozo_core.runs;
    guests uuid[];
    hosts uuid[];
    one uuid;
    said text;
BEGIN
    PERFORM virtuozo_core.one_operator_at_a_time();
    PERFORM virtuozo_core.probe_now(h.host_id)
       FROM (SELECT x.host_id FROM virtuozo_core.host_runs x WHERE x.run_id = retry_failed.run_id ORDER BY x.host_id) h;
    SELECT array_agg(x.id ORDER BY x.id) INTO guests
      FROM (SELECT g.id FROM virtuozo_core.guest_runs g
             WHERE g.run_id = retry_failed.run_id AND g.state = 'failed' ORDER BY g.id FOR NO KEY UPDATE) x;
    FOREACH one IN ARRAY coalesce(guests, '{}') LOOP
        PERFORM virtuozo_core.wait_again(one);
    END LOOP;
    WITH again AS (
        UPDATE virtuozo_core.host_runs h
           SET state = 'queued', ended_at = NULL, attempts = 0, crashes = 0, run_after = now()
         WHERE h.run_id = retry_failed.run_id AND h.state = 'failed'
     RETURNING h.id)
    SELECT array_agg(id) INTO hosts FROM again;
    PERFORM virtuozo_core.push_jobs('virtuozo-host', hosts, 0);
    SELECT * INTO r FROM virtuozo_core.runs x WHERE x.id = retry_failed.run_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no run %', run_id USING ERRCODE = 'P0002', HINT = 'virtuozo.runs lists them.';
    END IF;
    IF guests IS NULL AND hosts IS NULL THEN
        RAISE EXCEPTION 'nothing in the run % has failed', run_id
            USING ERRCODE = '55000', HINT = 'virtuozo.requeue() takes a cancelled guest run; or start a new run.';
    END IF;
    PERFORM virtuozo_core.reopen(r);
    said := virtuozo_core.record_operator_event(format('%s guests and %s hosts of the run begin afresh',
        coalesce(cardinality(guests), 0), coalesce(cardinality(hosts), 0)), r.id, NULL, NULL, NULL);
    PERFORM virtuozo_core.hold_run(x.run_id)
       FROM (SELECT k.run_id, k.state, k.on_failure FROM virtuozo_core.hook_runs k
              WHERE k.run_id = retry_failed.run_id AND k.moment = 'before' ORDER BY k.created_at DESC LIMIT 1) x
      WHERE x.state = 'failed' AND x.on_failure = 'fail';
    RETURN said;
END $$;

-- Cancels a run or a guest run: what has not begun ends at once, what is in work is stopped and undone by
-- its worker within about a lease's quarter.
CREATE OR REPLACE FUNCTION virtuozo.cancel(run_or_guest_run_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target CONSTANT uuid := run_or_guest_run_id;
    r virtuozo_core.runs;
    g virtuozo_core.guest_runs;
    ended uuid[];
BEGIN
    PERFORM virtuozo_core.one_operator_at_a_time();
    UPDATE virtuozo_core.host_runs
       SET state = 'cancelled', ended_at = now(),
           error = CASE WHEN fence = 0 THEN 'cancelled before it began'
                        ELSE 'cancelled while it waited to be tried again' || coalesce('; before that: ' || error, '') END
     WHERE run_id = target AND state = 'queued';
    -- One that begins or ends meanwhile is decided by its row's lock.
    WITH gone AS (
        UPDATE virtuozo_core.guest_runs x
           SET state = 'cancelled', ended_at = now(), error = virtuozo_core.cancelled_where(x)
         WHERE (run_id = target OR id = target) AND state IN ('waiting', 'admitted')
     RETURNING id)
    SELECT array_agg(id) INTO ended FROM gone;
    PERFORM virtuozo_core.free_slots(ended);
    -- The run's row last, as those do who end a guest run.
    UPDATE virtuozo_core.runs SET cancel_requested = true WHERE id = target AND state = 'running' RETURNING * INTO r;
    IF FOUND THEN
        RETURN virtuozo_core.record_operator_event('the run is cancelled', r.id, NULL, NULL, NULL);
    END IF;
    SELECT * INTO r FROM virtuozo_core.runs WHERE id = target;
    IF FOUND THEN
        RAISE EXCEPTION 'the run has ended already (%)', r.state USING ERRCODE = '55000';
    END IF;
    UPDATE virtuozo_core.guest_runs SET cancel_requested = true
     WHERE id = target AND (state = 'running' OR id = ANY (ended)) RETURNING * INTO g;
    IF FOUND THEN
        RETURN virtuozo_core.record_operator_event(format('guest %s: is cancelled in its run', virtuozo_core.guest_name(g.guest_id)),
            g.run_id, g.host_id, g.guest_id, g.id);
    END IF;
    SELECT * INTO g FROM virtuozo_core.guest_runs WHERE id = target;
    IF FOUND THEN
        RAISE EXCEPTION 'the guest run of % has ended already (%)', virtuozo_core.guest_name(g.guest_id), g.state
            USING ERRCODE = '55000';
    END IF;
    RAISE EXCEPTION 'there is no run and no guest run %', target
        USING ERRCODE = 'P0002', HINT = 'virtuozo.runs and virtuozo.guest_runs list them.';
END $$;

-- The one place where pausing is switched; target is the name of a host, or 'all'.
CREATE OR REPLACE FUNCTION virtuozo_core.set_paused(target text, paused boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    host uuid;
    changed boolean;
    said text := CASE WHEN paused THEN 'paused' ELSE 'resumed' END;
BEGIN
    PERFORM virtuozo_core.one_operator_at_a_time();
    IF target = 'all' THEN
        UPDATE virtuozo_core.settings
           SET paused_at = CASE WHEN paused THEN now() END, paused_by = CASE WHEN paused THEN session_user END
         WHERE (paused_at IS NOT NULL) <> paused;
        changed := FOUND;
        IF NOT paused THEN
            said := said || coalesce((SELECT '; still paused, each by its name: ' || string_agg(h.name, ', ' ORDER BY h.name)
                                        FROM virtuozo_core.hosts h WHERE h.paused_at IS NOT NULL), '');
        END IF;
    ELSE
        -- The row's lock is the one of admission: nothing is admitted any more when this has committed.
        SELECT id INTO host FROM virtuozo_core.hosts WHERE name = target FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no host %', quote_literal(target)
                USING ERRCODE = 'P0002', HINT = 'Give the name of a host, or all.';
        END IF;
        UPDATE virtuozo_core.hosts
           SET paused_at = CASE WHEN paused THEN now() END, paused_by = CASE WHEN paused THEN session_user END
         WHERE id = host AND (paused_at IS NOT NULL) <> paused;
        changed := FOUND;
        IF NOT paused AND virtuozo_core.is_paused(host) THEN
            RAISE EXCEPTION 'all hosts are paused, % with them', target
                USING ERRCODE = '55000', HINT = 'SELECT virtuozo.resume(''all'').';
        END IF;
    END IF;
    IF NOT changed THEN
        RETURN format('%s: already %s', target, said);
    END IF;
    RETURN virtuozo_core.record_operator_event(format('%s: %s', CASE target WHEN 'all' THEN 'all hosts' ELSE 'host ' || target END, said),
        NULL, host, NULL, NULL);
END $$;

-- No guest of the host, or of any host, is begun until virtuozo.resume(). What is in work goes on, and what
-- must be undone on guests is undone all the same.
CREATE OR REPLACE FUNCTION virtuozo.pause(host_or_all text) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN virtuozo_core.set_paused(host_or_all, true);

-- 'all' also resumes hosts that were paused one by one.
CREATE OR REPLACE FUNCTION virtuozo.resume(host_or_all text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said CONSTANT text := virtuozo_core.set_paused(host_or_all, false);
BEGIN
    PERFORM virtuozo_core.probe_now(CASE WHEN host_or_all <> 'all' THEN h.id END)
       FROM (SELECT (SELECT x.id FROM virtuozo_core.hosts x WHERE x.name = host_or_all) AS id) h;
    RETURN said;
END $$;

-- Gives up one obligation that can never be met: its host is gone for ever, its guest was deleted by hand. What
-- became of the guest is the administrator's from then on. The event belongs to the run only, as those of a host and
-- its guests go when these are removed, which is what comes next as a rule.
CREATE OR REPLACE FUNCTION virtuozo.forgive(obligation_id uuid, reason text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    o virtuozo_core.obligations;
    g record;
    name text;
BEGIN
    PERFORM virtuozo_core.one_operator_at_a_time();
    IF coalesce(btrim(reason), '') = '' THEN
        RAISE EXCEPTION 'no reason is given, for those who find the guest as it was left' USING ERRCODE = '55000';
    END IF;
    -- Who claims obligations, or admits a run of the guest, holds the row of its host. Those who end a run lock its
    -- obligations first and the host then: so none may be in work when the obligation is locked.
    PERFORM 1 FROM virtuozo_core.hosts h
      WHERE h.id = (SELECT x.host_id FROM virtuozo_core.obligations x WHERE x.id = obligation_id) FOR NO KEY UPDATE;
    SELECT * INTO o FROM virtuozo_core.obligations x WHERE x.id = obligation_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no obligation %', obligation_id
            USING ERRCODE = 'P0002', HINT = 'virtuozo.obligations lists them; one that is met is gone.';
    END IF;
    name := virtuozo_core.guest_name(o.guest_id);
    SELECT x.id, x.state, x.lease_until INTO g FROM virtuozo_core.guest_runs x
     WHERE x.guest_id = o.guest_id AND (x.state IN ('admitted', 'running') OR (x.id = o.guest_run_id AND x.state = 'waiting'))
     ORDER BY x.lease_until NULLS LAST LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'a guest run of % is %, and minds the obligations of the guest: wait for its end or cancel it', name,
                        g.state || coalesce(' (its lease ends at ' || date_trunc('second', g.lease_until) || ')', '')
            USING ERRCODE = '55000', HINT = format('virtuozo.cancel(''%s'') ends it.', g.id);
    END IF;
    SELECT * INTO o FROM virtuozo_core.obligations x WHERE x.id = obligation_id FOR UPDATE;
    IF virtuozo_core.is_held(o.lease_until) THEN
        RAISE EXCEPTION 'a worker is at it just now: try again when it has given up, or at %', date_trunc('second', o.lease_until)
            USING ERRCODE = '55000';
    END IF;
    DELETE FROM virtuozo_core.obligations x WHERE x.id = obligation_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no obligation % any more: it was met just now', obligation_id USING ERRCODE = 'P0002';
    END IF;
    RETURN virtuozo_core.record_operator_event(
        CASE o.kind
            WHEN 'power_on' THEN format('guest %s: powering it on again is given up: %s; whether it runs is the administrator''s to '
                                        'look after from now on', name, btrim(reason))
            ELSE format('guest %s: removing its snapshot %s is given up: %s; the snapshot is the administrator''s to look after '
                        'from now on, unless a later backup of the guest finds and removes it', name, o.snapshot_name, btrim(reason))
        END,
        (SELECT x.run_id FROM virtuozo_core.guest_runs x WHERE x.id = o.guest_run_id), NULL, NULL, NULL);
END $$;
