-- The whole schema, as a database shows it. Written by `make schema` from migrations/versioned and
-- migrations/definitions, and held equal to them by a test: never edited.

-- Name: virtuozo; Type: SCHEMA; Schema: -
CREATE SCHEMA virtuozo;

-- Name: virtuozo_core; Type: SCHEMA; Schema: -
CREATE SCHEMA virtuozo_core;

-- Name: backup_mode; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.backup_mode AS text
	CONSTRAINT backup_mode_check CHECK ((VALUE = ANY (ARRAY['hot'::text, 'cold'::text])));

-- Name: blake3; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.blake3 AS text
	CONSTRAINT blake3_check CHECK ((VALUE ~ '^[0-9a-f]{64}$'::text));

-- Name: disk_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.disk_state AS text
	CONSTRAINT disk_state_check CHECK ((VALUE = ANY (ARRAY['unknown'::text, 'ok'::text, 'not_in_inventory'::text, 'invalid'::text])));

-- Name: error_class; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.error_class AS text
	CONSTRAINT error_class_check CHECK ((VALUE = ANY (ARRAY['retry'::text, 'permanent'::text, 'operator'::text])));

-- Name: event_code; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.event_code AS integer
	CONSTRAINT event_code_check CHECK ((VALUE = ANY (ARRAY[50, 100, 200])));

-- Name: guest_run_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.guest_run_state AS text
	CONSTRAINT guest_run_state_check CHECK ((VALUE = ANY (ARRAY['waiting'::text, 'admitted'::text, 'running'::text, 'succeeded'::text, 'failed'::text, 'skipped'::text, 'cancelled'::text])));

-- Name: guest_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.guest_state AS text
	CONSTRAINT guest_state_check CHECK ((VALUE = ANY (ARRAY['unknown'::text, 'ok'::text, 'not_in_inventory'::text, 'not_configured'::text, 'invalid'::text, 'powered_off'::text])));

-- Name: hook_failure; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.hook_failure AS text
	CONSTRAINT hook_failure_check CHECK ((VALUE = ANY (ARRAY['fail'::text, 'ignore'::text])));

-- Name: hook_moment; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.hook_moment AS text
	CONSTRAINT hook_moment_check CHECK ((VALUE = ANY (ARRAY['before'::text, 'after'::text])));

-- Name: host_run_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.host_run_state AS text
	CONSTRAINT host_run_state_check CHECK ((VALUE = ANY (ARRAY['queued'::text, 'running'::text, 'succeeded'::text, 'failed'::text, 'cancelled'::text])));

-- Name: host_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.host_state AS text
	CONSTRAINT host_state_check CHECK ((VALUE = ANY (ARRAY['unknown'::text, 'ok'::text, 'unreachable'::text, 'invalid'::text])));

-- Name: instant; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.instant AS timestamp with time zone
	CONSTRAINT instant_is_readable CHECK (((VALUE < '9999-01-01 00:00:00+00'::timestamp with time zone) AND (VALUE > '1000-01-01 00:00:00+00'::timestamp with time zone)));

-- Name: mail_security; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.mail_security AS text
	CONSTRAINT mail_security_check CHECK ((VALUE = ANY (ARRAY['starttls'::text, 'tls'::text, 'none'::text])));

-- Name: mode_choice; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.mode_choice AS text
	CONSTRAINT mode_choice_check CHECK ((VALUE = ANY (ARRAY['hot'::text, 'cold'::text, 'auto'::text])));

-- Name: new_guests_choice; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.new_guests_choice AS text
	CONSTRAINT new_guests_choice_check CHECK ((VALUE = ANY (ARRAY['backup'::text, 'report'::text])));

-- Name: notice_channel; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.notice_channel AS text
	CONSTRAINT notice_channel_check CHECK ((VALUE = ANY (ARRAY['mail'::text, 'webhook'::text])));

-- Name: notice_kind; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.notice_kind AS text
	CONSTRAINT notice_kind_check CHECK ((VALUE = ANY (ARRAY['failure'::text, 'success'::text, 'obligation'::text, 'digest'::text, 'test'::text])));

-- Name: notice_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.notice_state AS text
	CONSTRAINT notice_state_check CHECK ((VALUE = ANY (ARRAY['waiting'::text, 'sending'::text, 'sent'::text, 'folded'::text, 'dropped'::text, 'failed'::text])));

-- Name: obligation_kind; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.obligation_kind AS text
	CONSTRAINT obligation_kind_check CHECK ((VALUE = ANY (ARRAY['remove_snapshot'::text, 'power_on'::text])));

-- Name: outcome; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.outcome AS text
	CONSTRAINT outcome_check CHECK ((VALUE = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text])));

-- Name: point_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.point_state AS text
	CONSTRAINT point_state_check CHECK ((VALUE = ANY (ARRAY['published'::text, 'damaged'::text, 'deleting'::text])));

-- Name: power_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.power_state AS text
	CONSTRAINT power_state_check CHECK ((VALUE = ANY (ARRAY['on'::text, 'off'::text, 'suspended'::text, 'blocked_on_question'::text])));

-- Name: process_kind; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.process_kind AS text
	CONSTRAINT process_kind_check CHECK ((VALUE = ANY (ARRAY['worker'::text, 'scheduler'::text])));

-- Name: read_back; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.read_back AS text
	CONSTRAINT read_back_check CHECK ((VALUE = ANY (ARRAY['medium'::text, 'server'::text, 'cache'::text])));

-- Name: request_kind; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.request_kind AS text
	CONSTRAINT request_kind_check CHECK ((VALUE = ANY (ARRAY['host_test'::text, 'host_check'::text, 'datastore_propose'::text])));

-- Name: run_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.run_state AS text
	CONSTRAINT run_state_check CHECK ((VALUE = ANY (ARRAY['running'::text, 'succeeded'::text, 'failed'::text, 'cancelled'::text])));

-- Name: severity; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.severity AS text
	CONSTRAINT severity_check CHECK ((VALUE = ANY (ARRAY['info'::text, 'warning'::text, 'error'::text])));

-- Name: step_name; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.step_name AS text
	CONSTRAINT step_name_check CHECK ((VALUE = ANY (ARRAY['validate'::text, 'snapshot'::text, 'power_off'::text, 'copy'::text, 'commit'::text, 'power_on'::text, 'verify'::text, 'publish'::text])));

-- Name: step_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.step_state AS text
	CONSTRAINT step_state_check CHECK ((VALUE = ANY (ARRAY['running'::text, 'done'::text, 'failed'::text])));

-- Name: task_state; Type: DOMAIN; Schema: virtuozo_core
CREATE DOMAIN virtuozo_core.task_state AS text
	CONSTRAINT task_state_check CHECK ((VALUE = ANY (ARRAY['waiting'::text, 'running'::text, 'succeeded'::text, 'failed'::text, 'cancelled'::text])));

-- Name: cancel(uuid); Type: FUNCTION; Schema: virtuozo
CREATE FUNCTION virtuozo.cancel(run_or_guest_run_id uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

-- Name: forgive(uuid, text); Type: FUNCTION; Schema: virtuozo
CREATE FUNCTION virtuozo.forgive(obligation_id uuid, reason text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

-- Name: set_paused(text, boolean); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.set_paused(target text, paused boolean) RETURNS text
    LANGUAGE plpgsql
    AS $$
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

-- Name: pause(text); Type: FUNCTION; Schema: virtuozo
CREATE FUNCTION virtuozo.pause(host_or_all text) RETURNS text
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN virtuozo_core.set_paused(host_or_all, true);

-- Name: requeue(uuid); Type: FUNCTION; Schema: virtuozo
CREATE FUNCTION virtuozo.requeue(guest_run_id uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

-- Name: resume(text); Type: FUNCTION; Schema: virtuozo
CREATE FUNCTION virtuozo.resume(host_or_all text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    said CONSTANT text := virtuozo_core.set_paused(host_or_all, false);
BEGIN
    PERFORM virtuozo_core.probe_now(CASE WHEN host_or_all <> 'all' THEN h.id END)
       FROM (SELECT (SELECT x.id FROM virtuozo_core.hosts x WHERE x.name = host_or_all) AS id) h;
    RETURN said;
END $$;

-- Name: retry_failed(uuid); Type: FUNCTION; Schema: virtuozo
CREATE FUNCTION virtuozo.retry_failed(run_id uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

-- Name: admit(uuid, uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.admit(host uuid, ended uuid) RETURNS SETOF uuid
    LANGUAGE plpgsql
    AS $$
DECLARE
    this record;
    own integer;
    its_node text;
    slot integer;
    next record;
    idle_nodes text[] := '{}';
BEGIN
    PERFORM 1 FROM virtuozo_core.hosts WHERE id = host FOR NO KEY UPDATE;
    -- As a statement of its own, which sees what was committed while this one waited for the host.
    SELECT coalesce(h.guest_threads, s.guest_threads) AS cap,
           virtuozo_core.host_reason(h.id) IS NULL AS may_begin,
           EXISTS (SELECT 1 FROM virtuozo_core.circuit_breakers x WHERE x.host_id = h.id) AS is_down,
           virtuozo_core.has_caps() AS capped, o.node, o.slot_no AS own,
           EXISTS (SELECT 1 FROM virtuozo_core.guest_slots x
                    WHERE x.host_id = h.id AND x.node = o.node AND x.slot_no > coalesce(h.guest_threads, s.guest_threads)) AS is_over
      INTO this
      FROM virtuozo_core.settings s
     CROSS JOIN virtuozo_core.hosts h
      LEFT JOIN virtuozo_core.guest_slots o ON o.guest_run_id = ended
     WHERE h.id = host;
    own := this.own;
    -- Of a node with more in work than it may have since its host's cap was lowered, no slot goes to the next one.
    IF own IS NOT NULL AND (this.capped OR this.is_over) THEN
        PERFORM virtuozo_core.leave_slot_no(host, this.node, own, this.cap);
        own := NULL;
    END IF;
    IF this.capped THEN
        FOR next IN
            SELECT g.id, g.run_id
              FROM virtuozo_core.admit_under_caps() AS a (id)
              JOIN virtuozo_core.guest_runs g ON g.id = a.id
        LOOP
            PERFORM virtuozo_core.push_jobs('virtuozo-guest', ARRAY[next.id], 0);
            RETURN NEXT next.run_id;
        END LOOP;
        RETURN;
    END IF;
    WHILE this.may_begin LOOP
        IF own IS NOT NULL THEN
            its_node := this.node;
            slot := own;
        ELSE
            SELECT s.node, s.slot_no INTO its_node, slot
              FROM virtuozo_core.guest_slots s
             WHERE s.host_id = host AND s.guest_run_id IS NULL AND s.node <> ALL (idle_nodes)
             ORDER BY s.node, s.slot_no
             LIMIT 1
               FOR UPDATE SKIP LOCKED;
            EXIT WHEN NOT FOUND;
        END IF;
        -- The due time and the node first, which cost less to know: guest_reason says the same of the due time, but by a call
        -- for each guest run.
        SELECT g.id, g.run_id INTO next
          FROM virtuozo_core.guest_runs g
         WHERE g.host_id = host AND g.state = 'waiting' AND g.run_after <= now()
           AND CASE WHEN its_node = coalesce((SELECT u.node FROM virtuozo_core.guests u WHERE u.id = g.guest_id), '')
                    THEN virtuozo_core.guest_reason(g) IS NULL END
         ORDER BY g.created_at, g.id
         LIMIT 1
           FOR UPDATE OF g SKIP LOCKED;
        IF NOT FOUND THEN
            IF own IS NOT NULL THEN
                PERFORM virtuozo_core.leave_slot_no(host, its_node, own, this.cap);
                own := NULL;
            END IF;
            idle_nodes := idle_nodes || its_node;
            CONTINUE;
        END IF;
        own := NULL;
        WITH taken AS (
            UPDATE virtuozo_core.guest_slots SET guest_run_id = next.id, taken_at = now()
             WHERE host_id = host AND node = its_node AND slot_no = slot)
        UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now() WHERE id = next.id;
        PERFORM virtuozo_core.push_jobs('virtuozo-guest', ARRAY[next.id], 0);
        RETURN NEXT next.run_id;
        EXIT WHEN this.is_down;
    END LOOP;
    IF own IS NOT NULL THEN
        PERFORM virtuozo_core.leave_slot_no(host, this.node, own, this.cap);
    END IF;
END $$;

-- Name: admit_under_caps(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.admit_under_caps() RETURNS SETOF uuid
    LANGUAGE plpgsql
    AS $$
DECLARE
    next record;
    reached text;
    all_reached text[] := '{}';
    busy_hosts uuid[] := '{}';
    full_nodes text[] := '{}';
    full_stores virtuozo_core.datastores[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(7316, 3) THEN
        -- Whoever admits now may have looked before this slot was free, so the scheduler is to look again.
        PERFORM pg_notify('virtuozo::look', '');
        RETURN;
    END IF;
    -- Looked for at the beginning, not at each of the guests that wait for them.
    full_stores := ARRAY(
        SELECT d FROM virtuozo_core.datastores d
         WHERE d.guest_threads IS NOT NULL AND virtuozo_core.in_work(d) >= d.guest_threads);
    FOR next IN
        SELECT g.id, g.host_id, g.guest_id, u AS guest, 'repository ' || coalesce(u.destination, s.destination) AS repository,
               h.is_down, coalesce(u.node, '') AS node, h.host_id || ' ' || coalesce(u.node, '') AS place
          -- By host: what holds for all guests of a host is asked once. Who is not due is left out here for the cost only:
          -- guest_reason, which is asked below, says the same, but by a call for each guest run.
          FROM (SELECT * FROM virtuozo_core.ready_hosts OFFSET 0) h
          JOIN virtuozo_core.guest_runs g ON g.host_id = h.host_id AND g.state = 'waiting' AND g.run_after <= now()
          JOIN virtuozo_core.guests u ON u.id = g.guest_id
         CROSS JOIN virtuozo_core.settings s
         ORDER BY g.created_at, g.id
    LOOP
        EXIT WHEN 'fleet' = ANY (all_reached);
        CONTINUE WHEN next.host_id = ANY (busy_hosts) OR next.place = ANY (full_nodes) OR next.repository = ANY (all_reached)
                   OR EXISTS (SELECT 1 FROM unnest(full_stores) d
                               WHERE d.host_id = next.host_id AND virtuozo_core.uses(next.guest, d));
        -- Who pairs slots with runs, or claims obligations, of one host does so alone; whoever has a host
        -- now admits its runs next.
        PERFORM 1 FROM virtuozo_core.hosts h WHERE h.id = next.host_id FOR NO KEY UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            busy_hosts := busy_hosts || next.host_id;
            CONTINUE;
        END IF;
        PERFORM 1
           FROM virtuozo_core.guest_runs g
          WHERE g.id = next.id AND g.state = 'waiting'
            AND virtuozo_core.guest_reason(g) IS NULL
            FOR UPDATE OF g SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        SELECT c.what INTO reached FROM virtuozo_core.reached_cap(next.guest_id) c;
        IF FOUND THEN
            -- Names of datastores are those of one host only.
            IF starts_with(reached, 'datastore ') THEN
                full_stores := full_stores || (SELECT d FROM virtuozo_core.datastores d
                                                WHERE d.host_id = next.host_id AND 'datastore ' || d.name = reached);
            ELSE
                all_reached := all_reached || reached;
            END IF;
            CONTINUE;
        END IF;
        UPDATE virtuozo_core.guest_slots
           SET guest_run_id = next.id, taken_at = now()
         WHERE host_id = next.host_id AND node = next.node
           AND slot_no = (SELECT f.slot_no FROM virtuozo_core.guest_slots f
                           WHERE f.host_id = next.host_id AND f.node = next.node AND f.guest_run_id IS NULL
                           ORDER BY f.slot_no LIMIT 1 FOR UPDATE SKIP LOCKED);
        IF NOT FOUND THEN
            full_nodes := full_nodes || next.place;
            CONTINUE;
        END IF;
        IF next.is_down THEN
            busy_hosts := busy_hosts || next.host_id;
        END IF;
        UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now() WHERE id = next.id;
        RETURN NEXT next.id;
    END LOOP;
END $$;

-- Name: begin_delete(uuid, integer, boolean); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.begin_delete(point uuid, cover integer, by_newer boolean) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    it virtuozo_core.restore_points;
    of_guest uuid[];
    covered_by bigint;
BEGIN
    SELECT * INTO it FROM virtuozo_core.restore_points WHERE id = point;
    -- One after the other for each guest, and none is found damaged meanwhile.
    IF it.guest_id IS NOT NULL THEN
        of_guest := ARRAY(SELECT p.id FROM virtuozo_core.restore_points p
                           WHERE p.guest_id = it.guest_id
                           ORDER BY p.id FOR NO KEY UPDATE);
    ELSE
        of_guest := ARRAY(SELECT p.id FROM virtuozo_core.restore_points p
                           WHERE p.guest_id IS NULL AND p.host_name = it.host_name AND p.guest_name = it.guest_name
                           ORDER BY p.id FOR NO KEY UPDATE);
    END IF;
    -- As statements of their own, which see what was committed while this one waited.
    SELECT * INTO it FROM virtuozo_core.restore_points WHERE id = point;
    IF NOT FOUND THEN
        RETURN 'gone';
    END IF;
    IF it.state = 'deleting' THEN
        RETURN 'under_way';
    END IF;
    -- One that was found and that nobody has adopted is not this site's to remove.
    IF by_newer AND it.found_at IS NOT NULL AND it.adopted_at IS NULL THEN
        RETURN 'uncovered';
    END IF;
    SELECT count(*) INTO covered_by
      FROM virtuozo_core.restore_points o
     WHERE o.id = ANY (of_guest) AND o.id <> point AND virtuozo_core.can_cover(o)
       AND (NOT by_newer OR (o.taken_at > it.taken_at AND o.entry_number > it.entry_number));
    IF covered_by < cover THEN
        RETURN 'uncovered';
    END IF;
    UPDATE virtuozo_core.restore_points SET state = 'deleting' WHERE id = point;
    RETURN 'begun';
END $$;

-- Name: restore_points; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.restore_points (
    id uuid NOT NULL,
    guest_id uuid,
    guest_run_id uuid,
    host_name text NOT NULL,
    guest_name text NOT NULL,
    repository text NOT NULL,
    path text NOT NULL,
    mode virtuozo_core.backup_mode NOT NULL,
    taken_at virtuozo_core.instant NOT NULL,
    published_at virtuozo_core.instant DEFAULT now() NOT NULL,
    size_bytes bigint NOT NULL,
    source_bytes bigint NOT NULL,
    foreign_snapshots text[] DEFAULT '{}'::text[] NOT NULL,
    state virtuozo_core.point_state DEFAULT 'published'::text NOT NULL,
    verified_at virtuozo_core.instant,
    damage text,
    found_at virtuozo_core.instant,
    adopted_at virtuozo_core.instant,
    entry_number bigint NOT NULL,
    manifest_blake3 virtuozo_core.blake3,
    read_back virtuozo_core.read_back
);

-- Name: can_cover(virtuozo_core.restore_points); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.can_cover(p virtuozo_core.restore_points) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT p.state = 'published' AND p.verified_at IS NOT NULL AND p.taken_at <= now()
       AND (p.found_at IS NULL OR p.adopted_at IS NOT NULL)
$$;

-- Name: guest_runs; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.guest_runs (
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    host_run_id uuid NOT NULL,
    host_id uuid NOT NULL,
    guest_id uuid NOT NULL,
    state virtuozo_core.guest_run_state DEFAULT 'waiting'::text NOT NULL,
    mode virtuozo_core.backup_mode,
    step virtuozo_core.step_name,
    fence bigint DEFAULT 0 NOT NULL,
    attempt_fence bigint,
    owner_id uuid,
    lease_until virtuozo_core.instant,
    cancel_requested boolean DEFAULT false NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    crashes integer DEFAULT 0 NOT NULL,
    run_after virtuozo_core.instant DEFAULT now() NOT NULL,
    admitted_at virtuozo_core.instant,
    error text,
    error_class virtuozo_core.error_class,
    bytes_total bigint,
    bytes_copied bigint DEFAULT 0 NOT NULL,
    progress_at virtuozo_core.instant,
    after_hook boolean DEFAULT false NOT NULL,
    trace_fence bigint DEFAULT 0 NOT NULL,
    trace_since virtuozo_core.instant,
    traced boolean DEFAULT false NOT NULL,
    created_at virtuozo_core.instant DEFAULT now() NOT NULL,
    started_at virtuozo_core.instant,
    ended_at virtuozo_core.instant,
    CONSTRAINT guest_runs_check CHECK ((((state)::text = 'running'::text) = (lease_until IS NOT NULL))),
    CONSTRAINT guest_runs_check1 CHECK ((((state)::text = ANY (ARRAY['waiting'::text, 'admitted'::text, 'running'::text])) = (ended_at IS NULL))),
    CONSTRAINT guest_runs_lease CHECK (((owner_id IS NULL) = (lease_until IS NULL)))
)
WITH (fillfactor='70');

-- Name: cancelled_where(virtuozo_core.guest_runs); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.cancelled_where(g virtuozo_core.guest_runs) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN coalesce(
        (SELECT format('cancelled while it waited to go on; step %s ', s.name)
                || CASE s.state WHEN 'done' THEN 'was done' WHEN 'failed' THEN 'had failed' ELSE 'was broken off' END
                || coalesce(': ' || coalesce(s.error, g.error), '')
           FROM virtuozo_core.steps s WHERE s.guest_run_id = g.id
          ORDER BY s.fence DESC, s.started_at DESC LIMIT 1),
        CASE WHEN g.fence = 0 THEN 'cancelled before it began'
             ELSE 'cancelled while it waited to go on' || coalesce(': ' || g.error, '') END);
END $$;

-- Name: caps(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.caps(guest uuid) RETURNS TABLE(what text, cap integer, busy bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN QUERY
    SELECT 'fleet', s.fleet_guest_threads,
           (SELECT count(*) FROM virtuozo_core.guest_slots WHERE guest_run_id IS NOT NULL)
      FROM virtuozo_core.settings s
     WHERE s.fleet_guest_threads IS NOT NULL
    UNION ALL
    SELECT 'repository ' || r.path, r.guest_threads, virtuozo_core.in_work(r)
      FROM virtuozo_core.guests u
     CROSS JOIN virtuozo_core.settings s
      JOIN virtuozo_core.repositories r ON r.path = coalesce(u.destination, s.destination)
     WHERE u.id = guest
    UNION ALL
    SELECT 'datastore ' || d.name, d.guest_threads, virtuozo_core.in_work(d)
      FROM virtuozo_core.guests u
      JOIN virtuozo_core.datastores d ON d.host_id = u.host_id
     WHERE u.id = guest AND d.guest_threads IS NOT NULL AND virtuozo_core.uses(u, d);
END $$;

-- Name: compact_slots(uuid, text, integer); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.compact_slots(host uuid, its_node text, cap integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    beyond virtuozo_core.guest_slots;
    free integer;
BEGIN
    DELETE FROM virtuozo_core.guest_slots
     WHERE host_id = host AND node = its_node AND slot_no > cap AND guest_run_id IS NULL;
    LOOP
        SELECT * INTO beyond FROM virtuozo_core.guest_slots
         WHERE host_id = host AND node = its_node AND slot_no > cap
         ORDER BY slot_no DESC LIMIT 1;
        EXIT WHEN NOT FOUND;
        SELECT slot_no INTO free FROM virtuozo_core.guest_slots
         WHERE host_id = host AND node = its_node AND slot_no <= cap AND guest_run_id IS NULL
         ORDER BY slot_no LIMIT 1;
        EXIT WHEN NOT FOUND;
        DELETE FROM virtuozo_core.guest_slots WHERE host_id = host AND node = its_node AND slot_no = beyond.slot_no;
        UPDATE virtuozo_core.guest_slots SET guest_run_id = beyond.guest_run_id, taken_at = beyond.taken_at
         WHERE host_id = host AND node = its_node AND slot_no = free;
    END LOOP;
END $$;

-- Name: describe_job(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.describe_job() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    subject CONSTANT uuid := virtuozo_core.job_subject(new.job_type, new.job);
    parent text;
BEGIN
    SELECT n.kind, n.host_id, n.locations INTO new.needs_kind, new.needs_host, new.needs_locations
      FROM virtuozo_core.job_needs(new.job_type, subject) n;
    IF new.job_type = 'virtuozo-guest' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), g.id, g.trace_fence) INTO parent
          FROM virtuozo_core.guest_runs g
          JOIN virtuozo_core.runs r ON r.id = g.run_id
         WHERE g.id = subject;
    ELSIF new.job_type = 'virtuozo-host' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), h.id, 0) INTO parent
          FROM virtuozo_core.host_runs h
          JOIN virtuozo_core.runs r ON r.id = h.run_id
         WHERE h.id = subject;
    ELSIF new.job_type = 'virtuozo-undo' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), g.id, g.trace_fence) INTO parent
          FROM virtuozo_core.obligations o
          JOIN virtuozo_core.guest_runs g ON g.id = o.guest_run_id
          JOIN virtuozo_core.runs r ON r.id = g.run_id
         WHERE o.guest_id = subject
         ORDER BY o.created_at LIMIT 1;
    END IF;
    IF parent IS NOT NULL AND coalesce(new.metadata::text, '') = '' THEN
        -- As text, which is read as hstore wherever that extension lives.
        new.metadata := format('"traceparent"=>"%s"', parent);
    END IF;
    RETURN new;
END $$;

-- Name: down_reason(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.down_reason(host uuid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN (SELECT CASE WHEN x.failed_probes = 0
                        THEN format('%s at %s: %s', CASE WHEN x.login_refused THEN 'refused the login' ELSE 'did not answer' END,
                                    date_trunc('second', x.failed_at), x.error)
                        ELSE format('%s (attempt %s%s failed at %s: %s)',
                                    CASE WHEN x.login_refused THEN 'refuses the login' ELSE 'does not answer' END, x.failed_probes,
                                    CASE WHEN x.failed_probes <= s.max_attempts THEN format(' of %s', s.max_attempts) END,
                                    date_trunc('second', x.failed_at), x.error) END
                   || CASE WHEN virtuozo_core.is_held(x.lease_until) THEN '; it is being probed'
                           WHEN x.open_until <= now() THEN '; a probe is due'
                           ELSE format('; next probe at %s', date_trunc('second', x.open_until)) END
              FROM virtuozo_core.circuit_breakers x CROSS JOIN virtuozo_core.settings s
             WHERE x.host_id = host);
END $$;

-- Name: free_slots(uuid[]); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.free_slots(guest_runs uuid[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    WITH mine AS (
        SELECT s.host_id, s.node, s.slot_no, s.slot_no > coalesce(h.guest_threads, x.guest_threads) AS surplus
          FROM virtuozo_core.guest_slots s
          JOIN virtuozo_core.hosts h ON h.id = s.host_id
         CROSS JOIN virtuozo_core.settings x
         WHERE s.guest_run_id = ANY (guest_runs)
    ), gone AS (
        DELETE FROM virtuozo_core.guest_slots s
         USING mine
         WHERE s.host_id = mine.host_id AND s.node = mine.node AND s.slot_no = mine.slot_no AND mine.surplus
    )
    UPDATE virtuozo_core.guest_slots s
       SET guest_run_id = NULL, taken_at = NULL
      FROM mine
     WHERE s.host_id = mine.host_id AND s.node = mine.node AND s.slot_no = mine.slot_no AND NOT mine.surplus;
END $$;

-- Name: grant_roles(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.grant_roles() RETURNS void
    LANGUAGE plpgsql
    AS $$
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

-- Name: guard_job(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.guard_job() RETURNS trigger
    LANGUAGE plpgsql
    AS $_$
DECLARE
    why text;
BEGIN
    IF new.job_type NOT LIKE 'virtuozo-%' THEN
        RETURN new;
    END IF;
    IF new.id !~ '^[0-7][0-9A-HJKMNP-TV-Z]{25}$' THEN
        why := 'its id is no ULID, which apalis.generate_ulid() makes';
    ELSIF least(new.run_at, new.lock_at, new.done_at) < '1970-01-02'
       OR greatest(new.run_at, new.lock_at, new.done_at) > '9999-01-01' THEN
        why := 'a time in it is before 1970 or after 9999';
    ELSIF new.attempts < 0 OR new.max_attempts < 1 OR new.priority < 0 THEN
        why := 'attempts, max_attempts or priority is below what apalis reads';
    ELSIF new.status NOT IN ('Pending', 'Queued', 'Running', 'Done', 'Failed', 'Killed') THEN
        why := 'its status is none of Pending, Queued, Running, Done, Failed, Killed';
    ELSIF virtuozo_core.job_key(new.job_type) IS NOT NULL
      AND (tg_op = 'INSERT' OR new.job IS DISTINCT FROM old.job OR new.job_type IS DISTINCT FROM old.job_type)
      AND virtuozo_core.job_subject(new.job_type, new.job) IS NULL THEN
        why := 'its payload is not a JSON object with the id of a host run, guest run, guest, notice or request';
    ELSIF new.metadata::text LIKE '%=>NULL%'
      AND (tg_op = 'INSERT' OR new.metadata::text IS DISTINCT FROM old.metadata::text)
      AND regexp_replace(new.metadata::text, '"(\\.|[^"\\])*"', '', 'g') LIKE '%NULL%' THEN
        why := 'its metadata holds a NULL';
    ELSE
        RETURN new;
    END IF;
    RAISE EXCEPTION 'this row would stop every worker of the queue %: %', new.job_type, why
        USING ERRCODE = 'check_violation', HINT = 'Use the functions of the schema virtuozo instead of apalis.jobs.';
END $_$;

-- Name: guests; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.guests (
    id uuid NOT NULL,
    host_id uuid NOT NULL,
    locator text NOT NULL,
    uuid uuid,
    name text NOT NULL,
    configured boolean DEFAULT true NOT NULL,
    ignored boolean DEFAULT false NOT NULL,
    destination text,
    mode virtuozo_core.mode_choice,
    resume_power_state boolean,
    backup_when_off boolean,
    keep_last integer,
    rpo_secs integer,
    state virtuozo_core.guest_state DEFAULT 'unknown'::text NOT NULL,
    state_reason text,
    power virtuozo_core.power_state,
    node text,
    datastore text,
    change_ids text[] DEFAULT '{}'::text[] NOT NULL,
    crashes integer DEFAULT 0 NOT NULL,
    checked_at virtuozo_core.instant,
    created_at virtuozo_core.instant DEFAULT now() NOT NULL,
    updated_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT guests_destination_check CHECK ((destination <> ''::text)),
    CONSTRAINT guests_keep_last_check CHECK ((keep_last >= 1)),
    CONSTRAINT guests_locator_check CHECK ((locator <> ''::text)),
    CONSTRAINT guests_rpo_secs_check CHECK ((rpo_secs >= 0))
);

-- Name: hosts; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.hosts (
    id uuid NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    address text,
    user_name text,
    password_sealed bytea,
    properties jsonb DEFAULT '{}'::jsonb NOT NULL,
    ignored boolean DEFAULT false NOT NULL,
    guest_threads integer,
    state virtuozo_core.host_state DEFAULT 'unknown'::text NOT NULL,
    state_reason text,
    checked_at virtuozo_core.instant,
    paused_at virtuozo_core.instant,
    paused_by text,
    created_at virtuozo_core.instant DEFAULT now() NOT NULL,
    updated_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT hosts_guest_threads_check CHECK (((guest_threads >= 1) AND (guest_threads <= 64))),
    CONSTRAINT hosts_kind_check CHECK ((kind ~ '^[a-z][a-z0-9_]{0,31}$'::text)),
    CONSTRAINT hosts_name_check CHECK ((name <> ''::text)),
    CONSTRAINT hosts_properties_check CHECK ((jsonb_typeof(properties) = 'object'::text))
);

-- Name: guest_name(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.guest_name(guest uuid) RETURNS text
    LANGUAGE sql STABLE
    RETURN (SELECT ((h.name || '/'::text) || g.name) FROM (virtuozo_core.guests g JOIN virtuozo_core.hosts h ON ((h.id = g.host_id))) WHERE (g.id = guest_name.guest));

-- Name: guest_reason(virtuozo_core.guest_runs); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.guest_reason(g virtuozo_core.guest_runs) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN CASE
        WHEN g.run_after > now() THEN format('its next attempt begins at %s', date_trunc('second', g.run_after))
        WHEN EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                      WHERE o.guest_id = g.guest_id AND (o.state IN ('admitted', 'running')) IS TRUE)
            THEN 'another run works on the guest'
        WHEN EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                      WHERE o.guest_id = g.guest_id AND virtuozo_core.is_held(o.lease_until))
            THEN 'what an earlier run left behind is being undone'
        WHEN EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                      WHERE o.guest_id = g.guest_id AND (o.state = 'waiting') IS TRUE AND o.run_after <= now()
                        AND (o.created_at, o.id) < (g.created_at, g.id))
            THEN 'an earlier run of the guest goes first'
    END;
END $$;

-- Name: guest_seen(uuid, text, text, text, text, text[], text[], bigint[], text[], text, text[], text, text[]); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.guest_seen(guest uuid, its_name text, its_power text, its_state text, reason text, devices text[], files text[], capacities bigint[], problems text[], its_node text, its_change_ids text[], its_datastore text, datastores text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    before record;
BEGIN
    SELECT g.host_id, coalesce(g.node, '') AS node, coalesce(g.node, '') <> coalesce(its_node, '') AS is_elsewhere
      INTO before FROM virtuozo_core.guests g WHERE g.id = guest;
    -- The host before the guest, as those lock them who apply its inventory.
    IF before.is_elsewhere THEN
        PERFORM 1 FROM virtuozo_core.hosts h WHERE h.id = before.host_id FOR NO KEY UPDATE;
    END IF;
    UPDATE virtuozo_core.guests
       SET name = its_name, power = its_power, node = its_node, change_ids = its_change_ids,
           datastore = its_datastore,
           state = CASE WHEN configured THEN its_state ELSE 'not_configured' END,
           state_reason = reason, checked_at = now()
     WHERE id = guest;
    -- The first guest on a node, where a slot that is in use may be left, or the last that leaves one.
    IF before.is_elsewhere
       AND (NOT EXISTS (SELECT 1 FROM virtuozo_core.guests g
                         WHERE g.host_id = before.host_id AND coalesce(g.node, '') = coalesce(its_node, '') AND g.id <> guest)
            OR NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s
                            WHERE s.host_id = before.host_id AND s.node = coalesce(its_node, ''))
            OR NOT EXISTS (SELECT 1 FROM virtuozo_core.guests g
                            WHERE g.host_id = before.host_id AND coalesce(g.node, '') = before.node)) THEN
        PERFORM virtuozo_core.sync_slots(before.host_id);
    END IF;
    UPDATE virtuozo_core.disks
       SET state = 'not_in_inventory', state_reason = 'the guest''s configuration does not name it',
           checked_at = now()
     WHERE guest_id = guest AND device <> ALL (devices);
    INSERT INTO virtuozo_core.disks (id, guest_id, device, file_name, datastore, capacity_bytes, state, state_reason, checked_at)
    SELECT gen_random_uuid(), guest, seen.device, seen.file_name, seen.datastore, seen.capacity_bytes,
           CASE WHEN seen.problem IS NULL THEN 'ok' ELSE 'invalid' END, seen.problem, now()
      FROM unnest(devices, files, capacities, problems, datastores)
        AS seen (device, file_name, capacity_bytes, problem, datastore)
    ON CONFLICT (guest_id, device) DO UPDATE
       SET file_name = excluded.file_name, datastore = excluded.datastore,
           capacity_bytes = coalesce(excluded.capacity_bytes, disks.capacity_bytes),
           state = excluded.state, state_reason = excluded.state_reason, checked_at = excluded.checked_at;
END $$;

-- Name: has_caps(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.has_caps() RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE fleet_guest_threads IS NOT NULL)
        OR EXISTS (SELECT 1 FROM virtuozo_core.repositories)
        OR EXISTS (SELECT 1 FROM virtuozo_core.datastores WHERE guest_threads IS NOT NULL);
END $$;

-- Name: has_purpose(text, bytea); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.has_purpose(queue text, job bytea) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    subject CONSTANT uuid := virtuozo_core.job_subject(queue, job);
BEGIN
    RETURN CASE queue
        WHEN 'virtuozo-host' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.host_runs h WHERE h.id = subject AND h.state = 'queued')
        WHEN 'virtuozo-guest' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.id = subject AND (g.state = 'admitted') IS TRUE)
        WHEN 'virtuozo-undo' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.obligations o WHERE o.guest_id = subject)
        WHEN 'virtuozo-notice' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.notices n WHERE n.id = subject AND n.state IN ('waiting', 'sending'))
        WHEN 'virtuozo-request' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.requests q WHERE q.id = subject AND q.state = 'waiting')
        ELSE true
    END;
END $$;

-- Name: held_reason(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.held_reason(host uuid) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN (SELECT CASE
                WHEN s.paused_at IS NOT NULL OR h.paused_at IS NOT NULL
                    THEN 'its host ' || virtuozo_core.pause_reason(h.id)
                WHEN virtuozo_core.is_open(x.open_until, x.lease_until)
                    THEN 'its host ' || virtuozo_core.down_reason(h.id)
                END
              FROM virtuozo_core.settings s
             CROSS JOIN virtuozo_core.hosts h
              LEFT JOIN virtuozo_core.circuit_breakers x ON x.host_id = h.id
             WHERE h.id = host);
END $$;

-- Name: hold_run(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.hold_run(run uuid) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO virtuozo_core.hook_runs (run_id, moment, command, limit_secs, on_failure)
    SELECT run, h.moment, h.command, h.limit_secs, h.on_failure
      FROM virtuozo_core.hooks h
     WHERE h.guest_id IS NULL AND h.moment = 'before';
    RETURN FOUND;
END $$;

-- Name: hook_after_guest_run(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.hook_after_guest_run() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO virtuozo_core.hook_runs (run_id, guest_run_id, moment, outcome, command, limit_secs, on_failure)
    SELECT new.run_id, new.id, h.moment, new.state, h.command, h.limit_secs, h.on_failure
      FROM virtuozo_core.hooks h
     WHERE h.guest_id = new.guest_id AND h.moment = 'after';
    RETURN NULL;
END $$;

-- Name: hook_after_run(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.hook_after_run() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE virtuozo_core.hook_runs
       SET state = 'cancelled', lease_until = NULL, owner_id = NULL, ended_at = now(), error = 'the run ended before it'
     WHERE run_id = new.id AND moment = 'before' AND state IN ('waiting', 'running');
    INSERT INTO virtuozo_core.hook_runs (run_id, moment, outcome, command, limit_secs, on_failure)
    SELECT new.id, h.moment, new.state, h.command, h.limit_secs, h.on_failure
      FROM virtuozo_core.hooks h
     WHERE h.guest_id IS NULL AND h.moment = 'after';
    RETURN NULL;
END $$;

-- Name: hook_reason(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.hook_reason(run uuid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN (SELECT 'waits for the command before the run, which '
                   || CASE x.state WHEN 'running' THEN format('was begun at %s', date_trunc('second', x.started_at))
                           ELSE coalesce('has not begun: ' || virtuozo_core.process_reason('scheduler'), 'a scheduler begins soon') END
              FROM virtuozo_core.hook_runs x
             WHERE x.run_id = run AND x.moment = 'before' AND x.state IN ('waiting', 'running')
             LIMIT 1);
END $$;

-- Name: host_reason(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.host_reason(host uuid) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    reason CONSTANT text := virtuozo_core.held_reason(host);
BEGIN
    -- Asked one after the other: what is admitted is looked through only for a host that is down.
    IF reason IS NULL AND EXISTS (SELECT 1 FROM virtuozo_core.circuit_breakers x WHERE x.host_id = host) THEN
        IF EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.host_id = host AND g.state = 'admitted') THEN
            RETURN 'its host ' || virtuozo_core.down_reason(host) || '; a guest is on its way to try it';
        END IF;
    END IF;
    RETURN reason;
END $$;

-- Name: host_runs; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.host_runs (
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    host_id uuid NOT NULL,
    guest_ids uuid[],
    state virtuozo_core.host_run_state DEFAULT 'queued'::text NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    owner_id uuid,
    lease_until virtuozo_core.instant,
    attempts integer DEFAULT 0 NOT NULL,
    crashes integer DEFAULT 0 NOT NULL,
    run_after virtuozo_core.instant DEFAULT now() NOT NULL,
    error text,
    error_class virtuozo_core.error_class,
    created_at virtuozo_core.instant DEFAULT now() NOT NULL,
    started_at virtuozo_core.instant,
    ended_at virtuozo_core.instant,
    CONSTRAINT host_runs_check CHECK ((((state)::text = 'running'::text) = (lease_until IS NOT NULL))),
    CONSTRAINT host_runs_check1 CHECK ((((state)::text = ANY (ARRAY['queued'::text, 'running'::text])) = (ended_at IS NULL))),
    CONSTRAINT host_runs_lease CHECK (((owner_id IS NULL) = (lease_until IS NULL)))
);

-- Name: host_run_obstacle(virtuozo_core.host_runs); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.host_run_obstacle(r virtuozo_core.host_runs) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN coalesce(virtuozo_core.hook_reason(r.run_id), virtuozo_core.held_reason(r.host_id));
END $$;

-- Name: datastores; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.datastores (
    host_id uuid NOT NULL,
    name text NOT NULL,
    host_path text,
    local_path text,
    guest_threads integer,
    seen_at virtuozo_core.instant,
    CONSTRAINT datastores_guest_threads_check CHECK ((guest_threads >= 1)),
    CONSTRAINT datastores_name_check CHECK ((name <> ''::text))
);

-- Name: in_work(virtuozo_core.datastores); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.in_work(store virtuozo_core.datastores) RETURNS bigint
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN (SELECT count(*)
              FROM virtuozo_core.guest_slots x
             WHERE x.host_id = store.host_id AND x.guest_run_id IS NOT NULL
               AND (SELECT virtuozo_core.uses(u, store)
                      FROM virtuozo_core.guest_runs g JOIN virtuozo_core.guests u ON u.id = g.guest_id
                     WHERE g.id = x.guest_run_id));
END $$;

-- Name: repositories; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.repositories (
    path text NOT NULL,
    guest_threads integer NOT NULL,
    CONSTRAINT repositories_guest_threads_check CHECK ((guest_threads >= 1)),
    CONSTRAINT repositories_path_check CHECK ((path <> ''::text))
);

-- Name: in_work(virtuozo_core.repositories); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.in_work(repository virtuozo_core.repositories) RETURNS bigint
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN (SELECT count(*)
              FROM virtuozo_core.guest_slots x
             WHERE x.guest_run_id IS NOT NULL
               AND (SELECT coalesce(u.destination, s.destination) = repository.path
                      FROM virtuozo_core.guest_runs g JOIN virtuozo_core.guests u ON u.id = g.guest_id
                     CROSS JOIN virtuozo_core.settings s
                     WHERE g.id = x.guest_run_id));
END $$;

-- Name: is_alive(timestamp with time zone, timestamp with time zone); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.is_alive(heartbeat_at timestamp with time zone, stopped_at timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN ((stopped_at IS NULL) AND (heartbeat_at > (now() - '00:00:15'::interval)));

-- Name: is_held(timestamp with time zone); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.is_held(lease_until timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT lease_until >= now() AND lease_until <= now() + interval '2 hours'
$$;

-- Name: is_lost(timestamp with time zone, integer); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.is_lost(lease_until timestamp with time zone, lease_secs integer) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT virtuozo_core.is_over(greatest(lease_until, pg_postmaster_start_time() + make_interval(secs => lease_secs)))
$$;

-- Name: is_on_its_way(text, uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.is_on_its_way(queue text, subject uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    -- A job that a worker has given back is due within seconds.
    longest_delay constant interval := '1 minute';
    longest_claim constant interval := '15 seconds';
BEGIN
    RETURN EXISTS (
        SELECT 1 FROM apalis.jobs j
         WHERE j.job_type = queue
           AND j.job = virtuozo_core.job_payload(queue, subject)
           AND ((j.status = 'Pending' AND j.run_at < now() + longest_delay)
                OR (j.status IN ('Queued', 'Running')
                    AND j.lock_at > now() - longest_claim AND j.lock_at < now() + longest_claim)));
END $$;

-- Name: is_open(timestamp with time zone, timestamp with time zone); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.is_open(open_until timestamp with time zone, lease_until timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT open_until > now() OR coalesce(virtuozo_core.is_held(lease_until), false)
$$;

-- Name: is_over(timestamp with time zone); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.is_over(lease_until timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT lease_until < now() OR lease_until > now() + interval '2 hours'
$$;

-- Name: is_paused(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.is_paused(host uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE paused_at IS NOT NULL)
        OR EXISTS (SELECT 1 FROM virtuozo_core.hosts WHERE id = host AND paused_at IS NOT NULL);
END $$;

-- Name: is_served(text); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.is_served(wanted text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'worker' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at)
                      AND virtuozo_core.serves_kind(w.id, wanted));
END $$;

-- Name: is_settled(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.is_settled() RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN (SELECT now() > pg_postmaster_start_time() + make_interval(secs => s.lease_secs) FROM virtuozo_core.settings s);
END $$;

-- Name: job_id(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.job_id() RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    digits CONSTANT text := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
    at CONSTANT bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
BEGIN
    -- One expression: a loop over the digits costs a third more.
    RETURN substr(digits, (at >> 45 & 31)::integer + 1, 1) || substr(digits, (at >> 40 & 31)::integer + 1, 1)
        || substr(digits, (at >> 35 & 31)::integer + 1, 1) || substr(digits, (at >> 30 & 31)::integer + 1, 1)
        || substr(digits, (at >> 25 & 31)::integer + 1, 1) || substr(digits, (at >> 20 & 31)::integer + 1, 1)
        || substr(digits, (at >> 15 & 31)::integer + 1, 1) || substr(digits, (at >> 10 & 31)::integer + 1, 1)
        || substr(digits, (at >> 5 & 31)::integer + 1, 1) || substr(digits, (at & 31)::integer + 1, 1)
        || upper(substr(replace(gen_random_uuid()::text, '-', ''), 1, 8) || right(gen_random_uuid()::text, 8));
END $$;

-- Name: job_key(text); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.job_key(queue text) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN CASE queue WHEN 'virtuozo-host'::text THEN 'host_run_id'::text WHEN 'virtuozo-guest'::text THEN 'guest_run_id'::text WHEN 'virtuozo-undo'::text THEN 'guest_id'::text WHEN 'virtuozo-notice'::text THEN 'notice_id'::text WHEN 'virtuozo-request'::text THEN 'request_id'::text ELSE NULL::text END;

-- Name: job_needs(text, uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.job_needs(queue text, subject uuid, OUT kind text, OUT host_id uuid, OUT locations text[]) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    guest uuid;
    destination text;
    reads_guests boolean := true;
BEGIN
    IF queue = 'virtuozo-guest' THEN
        SELECT g.host_id, g.guest_id, coalesce(u.destination, s.destination)
          INTO job_needs.host_id, guest, destination
          FROM virtuozo_core.guest_runs g
          JOIN virtuozo_core.guests u ON u.id = g.guest_id
         CROSS JOIN virtuozo_core.settings s
         WHERE g.id = subject;
    ELSIF queue = 'virtuozo-host' THEN
        SELECT r.host_id INTO job_needs.host_id FROM virtuozo_core.host_runs r WHERE r.id = subject;
    ELSIF queue = 'virtuozo-undo' THEN
        SELECT u.host_id, u.id INTO job_needs.host_id, guest FROM virtuozo_core.guests u WHERE u.id = subject;
    ELSIF queue = 'virtuozo-request' THEN
        SELECT q.host_id, q.kind = 'host_check' INTO job_needs.host_id, reads_guests
          FROM virtuozo_core.requests q WHERE q.id = subject;
    END IF;
    kind := coalesce((SELECT h.kind FROM virtuozo_core.hosts h WHERE h.id = job_needs.host_id), '');
    locations := CASE WHEN job_needs.host_id IS NOT NULL AND reads_guests THEN virtuozo_core.locations(job_needs.host_id, guest)
                      ELSE '{}' END;
    IF destination IS NOT NULL AND destination <> ALL (locations) THEN
        locations := locations || destination;
    END IF;
END $$;

-- Name: job_payload(text, uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.job_payload(queue text, id uuid) RETURNS bytea
    LANGUAGE sql STABLE
    RETURN convert_to(format('{"%s":"%s"}'::text, virtuozo_core.job_key(queue), id), 'UTF8'::name);

-- Name: job_subject(text, bytea); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.job_subject(queue text, job bytea) RETURNS uuid
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    key CONSTANT text := virtuozo_core.job_key(queue);
BEGIN
    RETURN coalesce(virtuozo_core.named_id(job, key), virtuozo_core.uuid_or_null(virtuozo_core.payload(job) ->> key));
END $$;

-- Name: kind_reason(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.kind_reason(host uuid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN (SELECT format('no running worker serves hosts of the kind %s; virtuozo doctor says why', h.kind)
              FROM virtuozo_core.hosts h WHERE h.id = host AND NOT virtuozo_core.is_served(h.kind));
END $$;

-- Name: lead_secs(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.lead_secs() RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT 8
$$;

-- Name: lease_end(integer); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.lease_end(secs integer) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
    SELECT now() + make_interval(secs => secs)
$$;

-- Name: lease_taken(bigint, uuid, integer); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.lease_taken(last_fence bigint, taker uuid, secs integer) RETURNS TABLE(fence bigint, owner_id uuid, lease_until timestamp with time zone)
    LANGUAGE sql STABLE
    AS $$
    SELECT last_fence + 1, taker, virtuozo_core.lease_end(secs)
$$;

-- Name: lease_taken_again(bigint, uuid, uuid, integer); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.lease_taken_again(last_fence bigint, last_owner uuid, taker uuid, secs integer) RETURNS TABLE(fence bigint, owner_id uuid, lease_until timestamp with time zone)
    LANGUAGE sql STABLE
    AS $$
    SELECT t.fence, t.owner_id, t.lease_until
      FROM virtuozo_core.lease_taken(last_fence - CASE WHEN last_owner = taker THEN 1 ELSE 0 END, taker, secs) t
$$;

-- Name: leave_slot_no(uuid, text, integer, integer); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.leave_slot_no(host uuid, its_node text, slot integer, cap integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF slot > cap THEN
        DELETE FROM virtuozo_core.guest_slots WHERE host_id = host AND node = its_node AND slot_no = slot;
    ELSE
        UPDATE virtuozo_core.guest_slots SET guest_run_id = NULL, taken_at = NULL
         WHERE host_id = host AND node = its_node AND slot_no = slot;
    END IF;
END $$;

-- Name: leaves_to_others(uuid, text, uuid, text[]); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.leaves_to_others(worker uuid, kind text, host uuid, locations text[]) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.lacks x
                    WHERE x.worker_id = worker AND (x.host_id = host OR x.location = ANY (locations)))
       AND EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'worker' AND w.id <> worker AND NOT w.drain_requested
                      AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at)
                      AND virtuozo_core.serves_kind(w.id, leaves_to_others.kind)
                      AND NOT EXISTS (SELECT 1 FROM virtuozo_core.lacks x
                                       WHERE x.worker_id = w.id AND (x.host_id = host OR x.location = ANY (locations))));
END $$;

-- Name: left_reason(text, uuid, text[]); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.left_reason(kind text, host uuid, locations text[]) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN (SELECT 'left to others by ' || string_agg(format('worker %s on %s, which lacks %s (%s)', x.name, x.machine,
                                                             coalesce(x.location, 'what the host ' || x.host || ' takes'), x.reason),
                                                      '; ' ORDER BY x.name, x.worker_id, x.location)
              FROM virtuozo_core.lacking_workers x
             WHERE (x.host = (SELECT h.name FROM virtuozo_core.hosts h WHERE h.id = left_reason.host) OR x.location = ANY (locations))
               AND virtuozo_core.leaves_to_others(x.worker_id, left_reason.kind, left_reason.host, locations));
END $$;

-- Name: locations(uuid, uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.locations(host uuid, guest uuid) RETURNS text[]
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    known CONSTANT text[] := ARRAY(
        SELECT u.datastore FROM virtuozo_core.guests u WHERE u.id = guest AND u.datastore IS NOT NULL
         UNION
        SELECT d.datastore FROM virtuozo_core.disks d WHERE d.guest_id = guest AND NOT d.ignored AND d.datastore IS NOT NULL);
BEGIN
    RETURN ARRAY(
        SELECT DISTINCT coalesce(d.local_path, d.host_path)
          FROM virtuozo_core.datastores d
         WHERE d.host_id = host AND (known = '{}' OR d.name = ANY (known))
           AND coalesce(d.local_path, d.host_path) LIKE '/%');
END $$;

-- Name: named_id(bytea, text); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.named_id(job bytea, key text) RETURNS uuid
    LANGUAGE plpgsql IMMUTABLE
    AS $$
DECLARE
    head bytea := convert_to(format('{"%s":"', key), 'UTF8');
BEGIN
    IF length(job) <> length(head) + 38 OR substr(job, 1, length(head)) <> head THEN
        RETURN NULL;
    END IF;
    RETURN virtuozo_core.uuid_or_null(encode(substr(job, length(head) + 1, 36), 'escape'));
END $$;

-- Name: notice_settings; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.notice_settings (
    only_row boolean DEFAULT true NOT NULL,
    mail_host text,
    mail_port integer,
    mail_security virtuozo_core.mail_security DEFAULT 'starttls'::text NOT NULL,
    allow_unencrypted boolean DEFAULT false NOT NULL,
    mail_user text,
    mail_password_sealed bytea,
    mail_from text,
    mail_to text[] DEFAULT '{}'::text[] NOT NULL,
    webhook_url text,
    webhook_secret_sealed bytea,
    ca_file text,
    on_failure boolean DEFAULT true NOT NULL,
    on_success boolean DEFAULT false NOT NULL,
    digest_time time without time zone DEFAULT '07:00:00'::time without time zone,
    digest_time_zone text,
    digest_done_until virtuozo_core.instant DEFAULT now() NOT NULL,
    group_secs integer DEFAULT 120 NOT NULL,
    messages_per_hour integer DEFAULT 20 NOT NULL,
    updated_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT notice_settings_ca_file_check CHECK ((ca_file <> ''::text)),
    CONSTRAINT notice_settings_check CHECK ((((mail_security)::text <> 'none'::text) OR allow_unencrypted)),
    CONSTRAINT notice_settings_group_secs_check CHECK (((group_secs >= 0) AND (group_secs <= 86400))),
    CONSTRAINT notice_settings_mail_from_check CHECK ((mail_from <> ''::text)),
    CONSTRAINT notice_settings_mail_host_check CHECK ((mail_host <> ''::text)),
    CONSTRAINT notice_settings_mail_port_check CHECK (((mail_port >= 1) AND (mail_port <= 65535))),
    CONSTRAINT notice_settings_mail_user_check CHECK ((mail_user <> ''::text)),
    CONSTRAINT notice_settings_messages_per_hour_check CHECK ((messages_per_hour >= 1)),
    CONSTRAINT notice_settings_only_row_check CHECK (only_row),
    CONSTRAINT notice_settings_webhook_url_check CHECK ((webhook_url <> ''::text))
);

-- Name: notice_channels(virtuozo_core.notice_settings); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.notice_channels(s virtuozo_core.notice_settings) RETURNS SETOF text
    LANGUAGE sql IMMUTABLE
    BEGIN ATOMIC
 SELECT 'mail'::text
   WHERE (((notice_channels.s).mail_host IS NOT NULL) AND ((notice_channels.s).mail_from IS NOT NULL) AND ((notice_channels.s).mail_to <> '{}'::text[]))
 UNION ALL
  SELECT 'webhook'::text
   WHERE ((notice_channels.s).webhook_url IS NOT NULL);
END;

-- Name: obstacle(virtuozo_core.guest_runs); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.obstacle(g virtuozo_core.guest_runs) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN coalesce(
        virtuozo_core.host_reason(g.host_id),
        virtuozo_core.guest_reason(g),
        virtuozo_core.slot_reason(
            g.host_id, coalesce((SELECT u.node FROM virtuozo_core.guests u WHERE u.id = g.guest_id), '')),
        (SELECT format('cap reached: %s, %s of %s guests in work', c.what, c.busy, c.cap)
           FROM virtuozo_core.reached_cap(g.guest_id) c));
END $$;

-- Name: one_operator_at_a_time(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.one_operator_at_a_time() RETURNS void
    LANGUAGE sql
    RETURN pg_advisory_xact_lock(7316, 2);

-- Name: pause_reason(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.pause_reason(host uuid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN (SELECT format('is paused%s since %s%s', CASE WHEN p.with_all THEN ' with all others' END,
                          date_trunc('second', p.since), ' by ' || p.by)
              FROM virtuozo_core.paused_hosts p WHERE p.host_id = host);
END $$;

-- Name: payload(bytea); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.payload(job bytea) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    doc jsonb;
BEGIN
    doc := convert_from(job, 'UTF8')::jsonb;
    RETURN CASE WHEN jsonb_typeof(doc) = 'object' THEN doc END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- Name: circuit_breakers; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.circuit_breakers (
    host_id uuid NOT NULL,
    failed_probes integer NOT NULL,
    login_refused boolean DEFAULT false NOT NULL,
    error text NOT NULL,
    failed_at virtuozo_core.instant DEFAULT now() NOT NULL,
    opened_at virtuozo_core.instant DEFAULT now() NOT NULL,
    open_until virtuozo_core.instant NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    owner_id uuid,
    lease_until virtuozo_core.instant,
    CONSTRAINT circuit_breakers_failed_probes_check CHECK ((failed_probes >= 0)),
    CONSTRAINT circuit_breakers_lease CHECK (((owner_id IS NULL) = (lease_until IS NULL)))
);

-- Name: probe_now(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.probe_now(host uuid) RETURNS void
    LANGUAGE sql
    BEGIN ATOMIC
 UPDATE virtuozo_core.circuit_breakers SET failed_probes = 0, open_until = now(), lease_until = NULL::timestamp with time zone, owner_id = NULL::uuid
   WHERE (circuit_breakers.host_id IN ( SELECT x.host_id
            FROM virtuozo_core.circuit_breakers x
           WHERE ((probe_now.host IS NULL) OR (x.host_id = probe_now.host))
           ORDER BY x.host_id
          FOR UPDATE OF x));
END;

-- Name: process_reason(text); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.process_reason(wanted text) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN CASE WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                                  WHERE w.kind = wanted AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
                THEN format('no %s runs', wanted) END;
END $$;

-- Name: push_jobs(text, uuid[], integer); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.push_jobs(queue text, subjects uuid[], delay_secs integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at)
    SELECT virtuozo_core.job_id(), queue, virtuozo_core.job_payload(queue, subject), 'Pending', 0, 25,
           now() + make_interval(secs => delay_secs)
      FROM unnest(subjects) subject;
END $$;

-- Name: reached_cap(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.reached_cap(guest uuid) RETURNS TABLE(what text, cap integer, busy bigint)
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN QUERY SELECT c.* FROM virtuozo_core.caps(guest) c WHERE c.busy >= c.cap LIMIT 1;
END $$;

-- Name: record_operator_event(text, uuid, uuid, uuid, uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.record_operator_event(message text, run uuid, host uuid, guest uuid, guest_run uuid) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO virtuozo_core.events (code, severity, message, run_id, host_id, guest_id, guest_run_id)
    VALUES (200, 'warning', format('%s (by the database user %s)', message, session_user), run, host, guest, guest_run);
    PERFORM pg_notify('virtuozo::look', '');
    RETURN message;
END $$;

-- Name: record_snapshot_obligation(uuid, bigint, uuid, text); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.record_snapshot_obligation(guest_run uuid, under bigint, obligation uuid, snapshot text) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence, snapshot_name)
    SELECT obligation, 'remove_snapshot', g.host_id, g.guest_id, g.id, g.fence, snapshot
      FROM virtuozo_core.guest_runs g
     WHERE g.id = guest_run AND g.fence = under AND (g.state = 'running') IS TRUE
    ON CONFLICT (guest_id, snapshot_name) WHERE kind = 'remove_snapshot'
    DO UPDATE SET guest_run_id = excluded.guest_run_id, guest_run_fence = excluded.guest_run_fence;
    RETURN CASE WHEN FOUND THEN now() END;
END $$;

-- Name: runs; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.runs (
    id uuid NOT NULL,
    schedule_id uuid,
    due_at virtuozo_core.instant,
    requested_by text NOT NULL,
    state virtuozo_core.run_state DEFAULT 'running'::text NOT NULL,
    cancel_requested boolean DEFAULT false NOT NULL,
    error text,
    trace_id uuid,
    trace_before uuid,
    trace_since virtuozo_core.instant,
    traced boolean DEFAULT false NOT NULL,
    created_at virtuozo_core.instant DEFAULT now() NOT NULL,
    ended_at virtuozo_core.instant,
    CONSTRAINT runs_check CHECK ((((state)::text = 'running'::text) = (ended_at IS NULL)))
);

-- Name: reopen(virtuozo_core.runs); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.reopen(r virtuozo_core.runs) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

-- Name: request_changed(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.request_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('virtuozo::request', new.id::text);
    RETURN NULL;
END $$;

-- Name: reserve_space(uuid, bigint, text, text, bigint, bigint, bigint); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.reserve_space(run uuid, run_fence bigint, place text, on_machine text, on_device bigint, needed bigint, free bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    others bigint;
BEGIN
    -- One at a time: otherwise two copies that begin together would not see each other.
    PERFORM pg_advisory_xact_lock(7316, 4);
    DELETE FROM virtuozo_core.space_reservations r
     WHERE NOT EXISTS (SELECT FROM virtuozo_core.guest_runs g WHERE g.id = r.guest_run_id AND g.fence = r.of_fence AND g.state = 'running');
    SELECT coalesce(sum(r.bytes - r.bytes * CASE WHEN g.progress_at > r.reserved_at AND g.bytes_total > 0
                                                 THEN least(g.bytes_copied::numeric / g.bytes_total, 1) ELSE 0 END), 0)
      INTO others
      FROM virtuozo_core.space_reservations r
      JOIN virtuozo_core.guest_runs g ON g.id = r.guest_run_id
     WHERE r.guest_run_id <> run AND (r.repository = place OR (r.machine = on_machine AND r.device = on_device));
    IF free IS NULL OR others + needed <= free THEN
        INSERT INTO virtuozo_core.space_reservations (guest_run_id, of_fence, repository, machine, device, bytes)
        VALUES (run, run_fence, place, on_machine, on_device, needed)
        ON CONFLICT (guest_run_id) DO UPDATE
           SET of_fence = EXCLUDED.of_fence, repository = EXCLUDED.repository, machine = EXCLUDED.machine, device = EXCLUDED.device,
               bytes = EXCLUDED.bytes, reserved_at = now();
    END IF;
    RETURN others;
END $$;

-- Name: serves_kind(uuid, text); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.serves_kind(worker uuid, wanted text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN wanted = ''
        OR EXISTS (SELECT 1 FROM virtuozo_core.worker_kinds k
                    WHERE k.worker_id = worker AND k.kind = wanted AND k.is_served)
        OR NOT EXISTS (SELECT 1 FROM virtuozo_core.worker_kinds k WHERE k.worker_id = worker);
END $$;

-- Name: shell_word(text); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.shell_word(word text) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN (word ~ '^[A-Za-z0-9_./:@%+,-]+$'::text) THEN word ELSE ((''''::text || replace(word, ''''::text, '''\'''''::text)) || ''''::text) END;

-- Name: slot_is_left(); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.slot_is_left() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    cap CONSTANT integer := (SELECT coalesce(h.guest_threads, s.guest_threads)
                               FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
                              WHERE h.id = old.host_id);
BEGIN
    IF EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s
                WHERE s.host_id = old.host_id AND s.node = old.node AND s.slot_no > cap) THEN
        PERFORM virtuozo_core.compact_slots(old.host_id, old.node, cap);
    END IF;
    RETURN NULL;
END $$;

-- Name: slot_reason(uuid, text); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.slot_reason(host uuid, its_node text) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN CASE
        WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s
                          WHERE s.host_id = host AND s.node = coalesce(its_node, s.node) AND s.guest_run_id IS NULL)
            THEN format('all %s slots of %s are taken',
                        (SELECT count(*) FROM virtuozo_core.guest_slots s
                          WHERE s.host_id = host AND s.node = coalesce(its_node, s.node)),
                        coalesce('its node ' || nullif(its_node, ''), 'its host'))
    END;
END $$;

-- Name: step_done(uuid, bigint, text, jsonb, text, text, text[], bigint[], bigint[], uuid[], bigint[]); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.step_done(guest_run uuid, under bigint, done text, left_behind jsonb, begun text, plan text, devices text[], totals bigint[], copied bigint[], met uuid[], met_fences bigint[]) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    to_copy bigint;
    so_far bigint;
    owner uuid;
BEGIN
    IF cardinality(devices) > 0 THEN
        SELECT sum(p.total), sum(p.copied) INTO to_copy, so_far FROM unnest(totals, copied) AS p (total, copied);
    END IF;
    -- IS TRUE: the row is to be found by its key. For the bare condition a plan may go through all that is in
    -- work, along an index that has nothing else.
    UPDATE virtuozo_core.guest_runs
       SET step = coalesce(begun, step), mode = coalesce(plan, mode),
           bytes_total = coalesce(to_copy, bytes_total), bytes_copied = coalesce(so_far, bytes_copied),
           progress_at = CASE WHEN to_copy IS NULL THEN progress_at ELSE now() END
     WHERE id = guest_run AND fence = under AND (state = 'running') IS TRUE
 RETURNING owner_id INTO owner;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE virtuozo_core.steps SET state = 'done', output = left_behind, ended_at = now()
     WHERE guest_run_id = guest_run AND fence = under AND name = done;
    IF begun IS NOT NULL THEN
        INSERT INTO virtuozo_core.steps (guest_run_id, fence, name, worker_id) VALUES (guest_run, under, begun, owner)
        ON CONFLICT (guest_run_id, fence, name)
        DO UPDATE SET state = 'running', output = NULL, error = NULL, error_type = NULL, error_code = NULL,
                      started_at = now(), ended_at = NULL;
    END IF;
    IF cardinality(devices) > 0 THEN
        INSERT INTO virtuozo_core.disk_progress (guest_run_id, device, bytes_total, bytes_copied)
        SELECT guest_run, p.device, p.total, p.copied FROM unnest(devices, totals, copied) AS p (device, total, copied)
        ON CONFLICT (guest_run_id, device)
        DO UPDATE SET bytes_total = excluded.bytes_total, bytes_copied = excluded.bytes_copied, updated_at = now();
    END IF;
    IF cardinality(met) > 0 THEN
        DELETE FROM virtuozo_core.obligations o
         USING unnest(met, met_fences) AS m (id, fence)
         WHERE o.id = m.id AND o.guest_run_id = guest_run AND o.guest_run_fence = m.fence;
    END IF;
    RETURN true;
END $$;

-- Name: sync_slots(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.sync_slots(only_host uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    host record;
BEGIN
    FOR host IN
        SELECT h.id FROM virtuozo_core.hosts h
         WHERE only_host IS NULL OR h.id = only_host
         ORDER BY h.id
           FOR NO KEY UPDATE
    LOOP
        DELETE FROM virtuozo_core.guest_slots s
         WHERE s.host_id = host.id AND s.guest_run_id IS NULL
           AND NOT EXISTS (SELECT 1 FROM virtuozo_core.host_nodes n WHERE n.host_id = s.host_id AND n.node = s.node);
        PERFORM virtuozo_core.compact_slots(h.id, n.node, coalesce(h.guest_threads, s.guest_threads))
           FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
          CROSS JOIN LATERAL (SELECT DISTINCT x.node FROM virtuozo_core.guest_slots x WHERE x.host_id = h.id) n
          WHERE h.id = host.id;
        INSERT INTO virtuozo_core.guest_slots (host_id, node, slot_no)
        SELECT h.id, n.node, c
          FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
          JOIN virtuozo_core.host_nodes n ON n.host_id = h.id
         CROSS JOIN LATERAL generate_series(1, coalesce(h.guest_threads, s.guest_threads)) c
         WHERE h.id = host.id
            ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- Name: trace_hex(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.trace_hex(trace uuid) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN replace((trace)::text, '-'::text, ''::text);

-- Name: traceparent(uuid, uuid, bigint); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.traceparent(trace uuid, id uuid, trace_fence bigint) RETURNS text
    LANGUAGE sql STABLE
    RETURN format('00-%s-%s-01'::text, virtuozo_core.trace_hex(trace), lpad(to_hex((((('x'::text || "right"(virtuozo_core.trace_hex(id), 16)))::bit(64))::bigint # trace_fence)), 16, '0'::text));

-- Name: uses(virtuozo_core.guests, virtuozo_core.datastores); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.uses(guest virtuozo_core.guests, store virtuozo_core.datastores) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN guest.host_id = store.host_id
       AND (coalesce(guest.datastore = store.name, false)
            OR EXISTS (SELECT 1 FROM virtuozo_core.disks d
                        WHERE d.guest_id = guest.id AND NOT d.ignored AND d.datastore = store.name));
END $$;

-- Name: uuid_or_null(text); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.uuid_or_null(text) RETURNS uuid
    LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN ($1 ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'::text) THEN ($1)::uuid ELSE NULL::uuid END;

-- Name: wait_again(uuid); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.wait_again(guest_run uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
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

-- Name: waiting_reason(virtuozo_core.guest_runs); Type: FUNCTION; Schema: virtuozo_core
CREATE FUNCTION virtuozo_core.waiting_reason(g virtuozo_core.guest_runs) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN CASE WHEN g.state IN ('waiting', 'admitted') THEN coalesce(
        virtuozo_core.process_reason('worker'),
        virtuozo_core.kind_reason(g.host_id),
        CASE g.state WHEN 'admitted' THEN
            'has a slot; ' || coalesce((SELECT virtuozo_core.left_reason(n.kind, n.host_id, n.locations)
                                          FROM virtuozo_core.job_needs('virtuozo-guest', g.id) n),
                                       'the next worker with room for its host takes it') END,
        virtuozo_core.obstacle(g),
        virtuozo_core.process_reason('scheduler'),
        'its host ' || virtuozo_core.down_reason(g.host_id),
        'its turn comes with the next look of the scheduler')
    END;
END $$;

-- Name: events; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.events (
    id bigint NOT NULL,
    at virtuozo_core.instant DEFAULT now() NOT NULL,
    code virtuozo_core.event_code NOT NULL,
    severity virtuozo_core.severity NOT NULL,
    message text NOT NULL,
    run_id uuid,
    host_id uuid,
    guest_id uuid,
    guest_run_id uuid,
    detail jsonb,
    xact xid8 DEFAULT pg_current_xact_id() NOT NULL
);

-- Name: event_lines; Type: VIEW; Schema: virtuozo_core
CREATE VIEW virtuozo_core.event_lines AS
 SELECT e.id,
    e.at,
    e.severity,
    e.code,
    e.message,
    h.name AS host,
    u.name AS guest,
    e.run_id,
    e.guest_run_id,
    e.detail,
    virtuozo_core.trace_hex(
        CASE
            WHEN ((e.at)::timestamp with time zone < (r.trace_since)::timestamp with time zone) THEN r.trace_before
            ELSE COALESCE(r.trace_id, r.id)
        END) AS trace_id,
    h.id AS host_id,
    e.guest_id,
    e.xact
   FROM ((((virtuozo_core.events e
     LEFT JOIN virtuozo_core.guests u ON ((u.id = e.guest_id)))
     LEFT JOIN virtuozo_core.hosts h ON ((h.id = COALESCE(e.host_id, u.host_id))))
     LEFT JOIN virtuozo_core.guest_runs g ON (((e.run_id IS NULL) AND (g.id = e.guest_run_id))))
     LEFT JOIN virtuozo_core.runs r ON ((r.id = COALESCE(e.run_id, g.run_id))));

-- Name: events; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.events AS
 SELECT event_lines.id,
    event_lines.at,
    event_lines.severity,
    event_lines.code,
    event_lines.message,
    event_lines.host,
    event_lines.guest,
    event_lines.run_id,
    event_lines.guest_run_id,
    event_lines.detail,
    event_lines.trace_id
   FROM virtuozo_core.event_lines;

-- Name: workers; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.workers (
    id uuid NOT NULL,
    kind virtuozo_core.process_kind NOT NULL,
    name text NOT NULL,
    machine text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    drain_requested boolean DEFAULT false NOT NULL,
    started_at virtuozo_core.instant DEFAULT now() NOT NULL,
    heartbeat_at virtuozo_core.instant DEFAULT now() NOT NULL,
    stopped_at virtuozo_core.instant
);

-- Name: guest_runs; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.guest_runs AS
 SELECT g.id,
    g.run_id,
    h.name AS host,
    u.name AS guest,
    g.state,
    g.mode,
    g.step,
    virtuozo_core.waiting_reason(g.*) AS waiting_reason,
    w.name AS worker,
    g.fence,
    g.lease_until,
    g.attempts,
    g.crashes,
    g.error AS last_error,
    g.error_class,
    g.run_after,
    g.cancel_requested,
    g.bytes_total,
    g.bytes_copied,
    g.progress_at,
    g.created_at,
    g.started_at,
    g.ended_at,
    ((p.repository || '/'::text) || p.path) AS restore_point,
    p.verified_at,
    virtuozo_core.trace_hex(COALESCE(r.trace_id, r.id)) AS trace_id
   FROM (((((virtuozo_core.guest_runs g
     JOIN virtuozo_core.runs r ON ((r.id = g.run_id)))
     JOIN virtuozo_core.hosts h ON ((h.id = g.host_id)))
     JOIN virtuozo_core.guests u ON ((u.id = g.guest_id)))
     LEFT JOIN virtuozo_core.workers w ON ((w.id = g.owner_id)))
     LEFT JOIN virtuozo_core.restore_points p ON ((p.guest_run_id = g.id)));

-- Name: guests; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.guests AS
 SELECT g.id,
    h.name AS host,
    g.name AS guest,
    (g.ignored OR h.ignored OR (NOT g.configured)) AS ignored,
    g.state,
    g.state_reason,
    g.power,
    g.checked_at,
    p.taken_at AS last_point_at,
    ((p.repository || '/'::text) || p.path) AS last_point,
    p.verified_at AS last_point_verified_at,
    r.state AS last_run_state,
    r.error AS last_error
   FROM (((virtuozo_core.guests g
     JOIN virtuozo_core.hosts h ON ((h.id = g.host_id)))
     LEFT JOIN LATERAL ( SELECT x.taken_at,
            x.repository,
            x.path,
            x.verified_at
           FROM virtuozo_core.restore_points x
          WHERE ((x.guest_id = g.id) AND ((x.state)::text = 'published'::text))
          ORDER BY x.taken_at DESC
         LIMIT 1) p ON (true))
     LEFT JOIN LATERAL ( SELECT x.state,
            x.error
           FROM virtuozo_core.guest_runs x
          WHERE (x.guest_id = g.id)
          ORDER BY x.created_at DESC
         LIMIT 1) r ON (true));

-- Name: hook_runs; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.hook_runs (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    run_id uuid NOT NULL,
    guest_run_id uuid,
    moment virtuozo_core.hook_moment NOT NULL,
    outcome virtuozo_core.outcome,
    command text[] NOT NULL,
    limit_secs integer NOT NULL,
    on_failure text NOT NULL,
    state virtuozo_core.task_state DEFAULT 'waiting'::text NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    owner_id uuid,
    lease_until virtuozo_core.instant,
    ran_by uuid,
    crashes integer DEFAULT 0 NOT NULL,
    exit_code integer,
    error text,
    created_at virtuozo_core.instant DEFAULT now() NOT NULL,
    started_at virtuozo_core.instant,
    ended_at virtuozo_core.instant,
    CONSTRAINT hook_runs_check CHECK ((((moment)::text = 'after'::text) = (outcome IS NOT NULL))),
    CONSTRAINT hook_runs_check1 CHECK ((((moment)::text = 'after'::text) OR (guest_run_id IS NULL))),
    CONSTRAINT hook_runs_check2 CHECK ((((state)::text = 'running'::text) = (lease_until IS NOT NULL))),
    CONSTRAINT hook_runs_check3 CHECK ((((state)::text = ANY (ARRAY['waiting'::text, 'running'::text])) = (ended_at IS NULL))),
    CONSTRAINT hook_runs_lease CHECK (((owner_id IS NULL) = (lease_until IS NULL)))
);

-- Name: hook_runs; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.hook_runs AS
 SELECT k.id,
    k.run_id,
    k.guest_run_id,
    h.name AS host,
    u.name AS guest,
    k.moment,
    k.outcome,
    k.command,
    k.state,
    k.fence AS attempts,
    w.name AS process,
    w.machine,
    k.exit_code,
    k.error,
    k.created_at,
    k.started_at,
    k.ended_at
   FROM ((((virtuozo_core.hook_runs k
     LEFT JOIN virtuozo_core.guest_runs g ON ((g.id = k.guest_run_id)))
     LEFT JOIN virtuozo_core.guests u ON ((u.id = g.guest_id)))
     LEFT JOIN virtuozo_core.hosts h ON ((h.id = g.host_id)))
     LEFT JOIN virtuozo_core.workers w ON ((w.id = k.ran_by)));

-- Name: hooks; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.hooks (
    guest_id uuid,
    moment virtuozo_core.hook_moment NOT NULL,
    command text[] NOT NULL,
    limit_secs integer NOT NULL,
    on_failure virtuozo_core.hook_failure NOT NULL,
    updated_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT hooks_command_check CHECK (((cardinality(command) >= 1) AND (command[1] <> ''::text))),
    CONSTRAINT hooks_limit_secs_check CHECK (((limit_secs >= 1) AND (limit_secs <= 86400)))
);

-- Name: hooks; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.hooks AS
 SELECT h.name AS host,
    u.name AS guest,
    k.moment,
    k.command,
    k.limit_secs,
    k.on_failure,
    k.updated_at
   FROM ((virtuozo_core.hooks k
     LEFT JOIN virtuozo_core.guests u ON ((u.id = k.guest_id)))
     LEFT JOIN virtuozo_core.hosts h ON ((h.id = u.host_id)));

-- Name: guest_slots; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.guest_slots (
    host_id uuid NOT NULL,
    node text DEFAULT ''::text NOT NULL,
    slot_no integer NOT NULL,
    guest_run_id uuid,
    taken_at virtuozo_core.instant,
    CONSTRAINT guest_slots_slot_no_check CHECK ((slot_no >= 1))
)
WITH (fillfactor='50');

-- Name: settings; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.settings (
    only_row boolean DEFAULT true NOT NULL,
    host_threads integer DEFAULT 10 NOT NULL,
    guest_threads integer DEFAULT 2 NOT NULL,
    fleet_guest_threads integer,
    destination text,
    mode virtuozo_core.mode_choice DEFAULT 'auto'::text NOT NULL,
    resume_power_state boolean DEFAULT true NOT NULL,
    backup_when_off boolean DEFAULT true NOT NULL,
    new_guests virtuozo_core.new_guests_choice DEFAULT 'backup'::text NOT NULL,
    verify_after_backup boolean DEFAULT true NOT NULL,
    keep_last integer DEFAULT 7 NOT NULL,
    group_may_read boolean DEFAULT false NOT NULL,
    rpo_secs integer DEFAULT 266400 NOT NULL,
    daily_start_time time without time zone DEFAULT '22:00:00'::time without time zone NOT NULL,
    time_zone text DEFAULT 'UTC'::text NOT NULL,
    soft_power_off_secs integer DEFAULT 120 NOT NULL,
    snapshot_limit_secs integer DEFAULT 600 NOT NULL,
    file_silence_secs integer DEFAULT 120 NOT NULL,
    max_attempts integer DEFAULT 3 NOT NULL,
    max_crashes integer DEFAULT 3 NOT NULL,
    retry_delay_secs integer DEFAULT 30 NOT NULL,
    lease_secs integer DEFAULT 10 NOT NULL,
    event_keep_days integer DEFAULT 90 NOT NULL,
    event_keep_count integer DEFAULT 1000000 NOT NULL,
    history_keep_days integer DEFAULT 180 NOT NULL,
    history_keep_runs integer DEFAULT 1000 NOT NULL,
    paused_at virtuozo_core.instant,
    paused_by text,
    updated_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT settings_daily_start_time_check CHECK ((daily_start_time < '24:00:00'::time without time zone)),
    CONSTRAINT settings_destination_check CHECK ((destination <> ''::text)),
    CONSTRAINT settings_event_keep_count_check CHECK ((event_keep_count >= 1000)),
    CONSTRAINT settings_event_keep_days_check CHECK (((event_keep_days >= 1) AND (event_keep_days <= 36500))),
    CONSTRAINT settings_file_silence_secs_check CHECK (((file_silence_secs >= 2) AND (file_silence_secs <= 86400))),
    CONSTRAINT settings_fleet_guest_threads_check CHECK ((fleet_guest_threads >= 1)),
    CONSTRAINT settings_guest_threads_check CHECK (((guest_threads >= 1) AND (guest_threads <= 64))),
    CONSTRAINT settings_history_keep_days_check CHECK (((history_keep_days >= 1) AND (history_keep_days <= 36500))),
    CONSTRAINT settings_history_keep_runs_check CHECK ((history_keep_runs >= 1)),
    CONSTRAINT settings_host_threads_check CHECK (((host_threads >= 1) AND (host_threads <= 10))),
    CONSTRAINT settings_keep_last_check CHECK ((keep_last >= 1)),
    CONSTRAINT settings_lease_secs_check CHECK (((lease_secs >= 2) AND (lease_secs <= 3600))),
    CONSTRAINT settings_max_attempts_check CHECK (((max_attempts >= 1) AND (max_attempts <= 20))),
    CONSTRAINT settings_max_crashes_check CHECK (((max_crashes >= 1) AND (max_crashes <= 20))),
    CONSTRAINT settings_only_row_check CHECK (only_row),
    CONSTRAINT settings_retry_delay_secs_check CHECK (((retry_delay_secs >= 0) AND (retry_delay_secs <= 86400))),
    CONSTRAINT settings_rpo_secs_check CHECK ((rpo_secs >= 0)),
    CONSTRAINT settings_snapshot_limit_secs_check CHECK (((snapshot_limit_secs >= 1) AND (snapshot_limit_secs <= 86400))),
    CONSTRAINT settings_soft_power_off_secs_check CHECK (((soft_power_off_secs >= 0) AND (soft_power_off_secs <= 3600)))
);

-- Name: hosts; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.hosts AS
 SELECT h.id,
    h.name,
    h.kind,
    h.address,
    h.ignored,
    h.state,
    COALESCE(virtuozo_core.down_reason(h.id), h.state_reason) AS state_reason,
    h.checked_at,
    COALESCE(h.paused_at, s.paused_at) AS paused_since,
    ( SELECT count(*) AS count
           FROM virtuozo_core.guest_slots x
          WHERE (x.host_id = h.id)) AS slots,
    ( SELECT count(x.guest_run_id) AS count
           FROM virtuozo_core.guest_slots x
          WHERE (x.host_id = h.id)) AS slots_taken,
    ( SELECT count(*) AS count
           FROM virtuozo_core.guest_runs g
          WHERE ((g.host_id = h.id) AND ((g.state)::text = 'waiting'::text))) AS guests_waiting,
    d.opened_at AS down_since,
    d.failed_probes,
    d.open_until AS next_probe_at,
        CASE
            WHEN (h.paused_at IS NOT NULL) THEN h.paused_by
            ELSE s.paused_by
        END AS paused_by
   FROM ((virtuozo_core.hosts h
     CROSS JOIN virtuozo_core.settings s)
     LEFT JOIN virtuozo_core.circuit_breakers d ON ((d.host_id = h.id)));

-- Name: obligations; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.obligations (
    id uuid NOT NULL,
    kind virtuozo_core.obligation_kind NOT NULL,
    host_id uuid NOT NULL,
    guest_id uuid NOT NULL,
    guest_run_id uuid NOT NULL,
    guest_run_fence bigint NOT NULL,
    snapshot_name text,
    attempts integer DEFAULT 0 NOT NULL,
    next_attempt_at virtuozo_core.instant DEFAULT now() NOT NULL,
    last_error text,
    fence bigint DEFAULT 0 NOT NULL,
    owner_id uuid,
    lease_until virtuozo_core.instant,
    created_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT obligations_check CHECK ((((kind)::text = 'remove_snapshot'::text) = (snapshot_name IS NOT NULL))),
    CONSTRAINT obligations_lease CHECK (((owner_id IS NULL) = (lease_until IS NULL)))
);

-- Name: requests; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.requests (
    id uuid NOT NULL,
    kind virtuozo_core.request_kind NOT NULL,
    host_id uuid NOT NULL,
    requested_by text NOT NULL,
    state virtuozo_core.task_state DEFAULT 'waiting'::text NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    owner_id uuid,
    lease_until virtuozo_core.instant,
    crashes integer DEFAULT 0 NOT NULL,
    taken_by text,
    answer jsonb,
    error text,
    error_class virtuozo_core.error_class,
    asked_at virtuozo_core.instant DEFAULT now() NOT NULL,
    wanted_until virtuozo_core.instant NOT NULL,
    ended_at virtuozo_core.instant,
    CONSTRAINT requests_check CHECK ((((state)::text = 'running'::text) = (lease_until IS NOT NULL))),
    CONSTRAINT requests_check1 CHECK ((((state)::text = 'succeeded'::text) = (answer IS NOT NULL))),
    CONSTRAINT requests_check2 CHECK ((((state)::text = 'failed'::text) = (error IS NOT NULL))),
    CONSTRAINT requests_check3 CHECK ((((state)::text = ANY (ARRAY['waiting'::text, 'running'::text])) = (ended_at IS NULL))),
    CONSTRAINT requests_lease CHECK (((owner_id IS NULL) = (lease_until IS NULL)))
);

-- Name: jobs; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.jobs AS
 SELECT j.id,
    j.job_type AS queue,
    j.status,
    p.doc AS payload,
    COALESCE(g.run_id, r.run_id) AS run_id,
    r.id AS host_run_id,
    g.id AS guest_run_id,
    h.name AS host,
    u.name AS guest,
    g.step,
    COALESCE(g.attempts, r.attempts, ( SELECT max(o.attempts) AS max
           FROM virtuozo_core.obligations o
          WHERE (o.guest_id = u.id))) AS attempts,
    COALESCE(g.error, r.error, ( SELECT max(o.last_error) AS max
           FROM virtuozo_core.obligations o
          WHERE ((j.job_type = 'virtuozo-undo'::text) AND (o.guest_id = u.id))), (j.last_result ->> 'Err'::text)) AS last_error,
    "substring"((j.metadata)::text, '"traceparent"=>"[^-"]*-([^-"]+)'::text) AS trace_id,
        CASE
            WHEN (j.status = ANY (ARRAY['Queued'::text, 'Running'::text, 'Done'::text, 'Killed'::text])) THEN NULL::text
            WHEN ((j.status = 'Failed'::text) AND (j.attempts >= j.max_attempts)) THEN NULL::text
            WHEN (p.doc IS NULL) THEN 'its payload cannot be read'::text
            WHEN (j.run_at > now()) THEN format('due at %s'::text, j.run_at)
            WHEN (g.id IS NOT NULL) THEN virtuozo_core.waiting_reason(g.*)
            ELSE COALESCE(virtuozo_core.kind_reason(h.id), virtuozo_core.left_reason(j.needs_kind, j.needs_host, j.needs_locations), 'no worker has claimed it yet'::text)
        END AS waiting_reason,
    j.attempts AS deliveries,
    j.run_at,
    j.lock_at AS claimed_at,
    w.name AS worker,
    j.done_at,
    NULLIF(j.needs_kind, ''::text) AS needs_kind,
    j.needs_locations
   FROM (((((((apalis.jobs j
     CROSS JOIN LATERAL ( SELECT virtuozo_core.payload(j.job) AS doc) p)
     LEFT JOIN virtuozo_core.guest_runs g ON ((g.id = virtuozo_core.uuid_or_null((p.doc ->> 'guest_run_id'::text)))))
     LEFT JOIN virtuozo_core.host_runs r ON ((r.id = virtuozo_core.uuid_or_null((p.doc ->> 'host_run_id'::text)))))
     LEFT JOIN virtuozo_core.guests u ON ((u.id = COALESCE(g.guest_id, virtuozo_core.uuid_or_null((p.doc ->> 'guest_id'::text))))))
     LEFT JOIN virtuozo_core.requests q ON ((q.id = virtuozo_core.uuid_or_null((p.doc ->> 'request_id'::text)))))
     LEFT JOIN virtuozo_core.hosts h ON ((h.id = COALESCE(u.host_id, r.host_id, q.host_id))))
     LEFT JOIN virtuozo_core.workers w ON ((w.id = virtuozo_core.uuid_or_null(split_part(j.lock_by, '/'::text, 1)))))
  WHERE (j.job_type ~~ 'virtuozo-%'::text);

-- Name: nodes; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.nodes AS
 SELECT h.name AS host,
    NULLIF(s.node, ''::text) AS node,
    s.slots,
    s.slots_taken,
    ( SELECT count(*) AS count
           FROM (virtuozo_core.guest_runs g
             JOIN virtuozo_core.guests u ON ((u.id = g.guest_id)))
          WHERE ((g.host_id = h.id) AND ((g.state)::text = 'waiting'::text) AND (COALESCE(u.node, ''::text) = s.node))) AS guests_waiting
   FROM (virtuozo_core.hosts h
     JOIN ( SELECT x.host_id,
            x.node,
            count(*) AS slots,
            count(x.guest_run_id) AS slots_taken
           FROM virtuozo_core.guest_slots x
          GROUP BY x.host_id, x.node) s ON ((s.host_id = h.id)));

-- Name: notices; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.notices (
    id uuid NOT NULL,
    kind virtuozo_core.notice_kind NOT NULL,
    channel virtuozo_core.notice_channel NOT NULL,
    run_id uuid,
    due_at virtuozo_core.instant,
    state virtuozo_core.notice_state DEFAULT 'waiting'::text NOT NULL,
    folded_into uuid,
    held boolean DEFAULT false NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    owner_id uuid,
    lease_until virtuozo_core.instant,
    attempts integer DEFAULT 0 NOT NULL,
    run_after virtuozo_core.instant DEFAULT now() NOT NULL,
    sent_to text[] DEFAULT '{}'::text[] NOT NULL,
    refused_to text[] DEFAULT '{}'::text[] NOT NULL,
    last_error text,
    created_at virtuozo_core.instant DEFAULT now() NOT NULL,
    ended_at virtuozo_core.instant,
    CONSTRAINT notices_check CHECK ((((kind)::text = ANY (ARRAY['failure'::text, 'success'::text, 'obligation'::text])) = (run_id IS NOT NULL))),
    CONSTRAINT notices_check1 CHECK ((((kind)::text = 'digest'::text) = (due_at IS NOT NULL))),
    CONSTRAINT notices_check2 CHECK ((((state)::text = 'sending'::text) = (lease_until IS NOT NULL))),
    CONSTRAINT notices_check3 CHECK ((((state)::text = 'folded'::text) = (folded_into IS NOT NULL))),
    CONSTRAINT notices_check4 CHECK ((((state)::text = ANY (ARRAY['waiting'::text, 'sending'::text])) = (ended_at IS NULL))),
    CONSTRAINT notices_lease CHECK (((owner_id IS NULL) = (lease_until IS NULL)))
);

-- Name: notices; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.notices AS
 SELECT n.id,
    n.kind,
    n.channel,
    n.run_id,
    n.state,
    n.folded_into,
    n.held,
    n.attempts,
    n.run_after,
    n.sent_to,
    n.refused_to,
    n.last_error,
    n.created_at,
    n.ended_at
   FROM virtuozo_core.notices n;

-- Name: obligations; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.obligations AS
 SELECT o.id,
    o.kind,
    h.name AS host,
    u.name AS guest,
    o.snapshot_name,
    o.guest_run_id,
    g.run_id,
    COALESCE(virtuozo_core.is_held((o.lease_until)::timestamp with time zone), false) AS in_work,
    o.attempts,
    o.next_attempt_at,
    COALESCE(('its host '::text || virtuozo_core.down_reason(o.host_id)), o.last_error) AS last_error,
    o.created_at
   FROM (((virtuozo_core.obligations o
     JOIN virtuozo_core.hosts h ON ((h.id = o.host_id)))
     JOIN virtuozo_core.guests u ON ((u.id = o.guest_id)))
     JOIN virtuozo_core.guest_runs g ON ((g.id = o.guest_run_id)));

-- Name: rpo; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.rpo AS
 SELECT g.id,
    h.name AS host,
    g.name AS guest,
    g.locator,
    o.rpo_secs,
    p.taken_at AS last_point_at,
    a.age_secs,
    COALESCE((a.age_secs > o.rpo_secs), false) AS exceeded
   FROM (((((virtuozo_core.guests g
     JOIN virtuozo_core.hosts h ON ((h.id = g.host_id)))
     CROSS JOIN virtuozo_core.settings s)
     CROSS JOIN LATERAL ( SELECT NULLIF(COALESCE(g.rpo_secs, s.rpo_secs), 0) AS rpo_secs) o)
     LEFT JOIN LATERAL ( SELECT x.taken_at
           FROM virtuozo_core.restore_points x
          WHERE ((x.guest_id = g.id) AND ((x.state)::text = 'published'::text) AND ((x.taken_at)::timestamp with time zone < (now() + '00:05:00'::interval)))
          ORDER BY x.taken_at DESC
         LIMIT 1) p ON (true))
     CROSS JOIN LATERAL ( SELECT (round(EXTRACT(epoch FROM (now() - (COALESCE(p.taken_at, g.created_at))::timestamp with time zone))))::bigint AS age_secs) a)
  WHERE (g.configured AND (NOT g.ignored) AND (NOT h.ignored));

-- Name: schedules; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.schedules (
    id uuid NOT NULL,
    name text NOT NULL,
    cron text,
    time_zone text,
    enabled boolean DEFAULT true NOT NULL,
    done_until virtuozo_core.instant DEFAULT now() NOT NULL,
    created_at virtuozo_core.instant DEFAULT now() NOT NULL,
    updated_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT schedules_name_check CHECK ((name <> ''::text))
);

-- Name: runs; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.runs AS
 SELECT r.id,
    r.state,
    r.requested_by,
    s.name AS schedule,
    r.due_at,
    r.cancel_requested,
    r.error,
    r.created_at,
    r.ended_at,
    (COALESCE((r.ended_at)::timestamp with time zone, now()) - (r.created_at)::timestamp with time zone) AS duration,
    h.open AS hosts_open,
    h.failed AS hosts_failed,
    g.guests,
    g.open AS guests_open,
    g.succeeded AS guests_succeeded,
    g.failed AS guests_failed,
    g.skipped AS guests_skipped,
    g.cancelled AS guests_cancelled,
    g.bytes_copied,
    virtuozo_core.trace_hex(COALESCE(r.trace_id, r.id)) AS trace_id,
    virtuozo_core.hook_reason(r.id) AS waiting_reason
   FROM (((virtuozo_core.runs r
     LEFT JOIN virtuozo_core.schedules s ON ((s.id = r.schedule_id)))
     CROSS JOIN LATERAL ( SELECT count(*) FILTER (WHERE ((host_runs.state)::text = ANY (ARRAY['queued'::text, 'running'::text]))) AS open,
            count(*) FILTER (WHERE ((host_runs.state)::text = 'failed'::text)) AS failed
           FROM virtuozo_core.host_runs
          WHERE (host_runs.run_id = r.id)) h)
     CROSS JOIN LATERAL ( SELECT count(*) AS guests,
            count(*) FILTER (WHERE ((guest_runs.state)::text = ANY (ARRAY['waiting'::text, 'admitted'::text, 'running'::text]))) AS open,
            count(*) FILTER (WHERE ((guest_runs.state)::text = 'succeeded'::text)) AS succeeded,
            count(*) FILTER (WHERE ((guest_runs.state)::text = 'failed'::text)) AS failed,
            count(*) FILTER (WHERE ((guest_runs.state)::text = 'skipped'::text)) AS skipped,
            count(*) FILTER (WHERE ((guest_runs.state)::text = 'cancelled'::text)) AS cancelled,
            (COALESCE(sum(guest_runs.bytes_copied), (0)::numeric))::bigint AS bytes_copied
           FROM virtuozo_core.guest_runs
          WHERE (guest_runs.run_id = r.id)) g);

-- Name: file_waits; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.file_waits (
    guest_run_id uuid NOT NULL,
    fence bigint NOT NULL,
    what text NOT NULL,
    since virtuozo_core.instant NOT NULL,
    CONSTRAINT file_waits_what_check CHECK ((what <> ''::text))
);

-- Name: paused_hosts; Type: VIEW; Schema: virtuozo_core
CREATE VIEW virtuozo_core.paused_hosts AS
 SELECT h.id AS host_id,
    (s.paused_at IS NOT NULL) AS with_all,
    COALESCE(s.paused_at, h.paused_at) AS since,
        CASE
            WHEN (s.paused_at IS NOT NULL) THEN s.paused_by
            ELSE h.paused_by
        END AS by
   FROM (virtuozo_core.hosts h
     CROSS JOIN virtuozo_core.settings s)
  WHERE ((s.paused_at IS NOT NULL) OR (h.paused_at IS NOT NULL));

-- Name: steps; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.steps (
    guest_run_id uuid NOT NULL,
    fence bigint NOT NULL,
    name virtuozo_core.step_name NOT NULL,
    state virtuozo_core.step_state DEFAULT 'running'::text NOT NULL,
    worker_id uuid,
    output jsonb,
    error text,
    error_type text,
    error_code bigint,
    started_at virtuozo_core.instant DEFAULT now() NOT NULL,
    ended_at virtuozo_core.instant
)
WITH (fillfactor='70');

-- Name: worker_kinds; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.worker_kinds (
    worker_id uuid NOT NULL,
    kind text NOT NULL,
    is_served boolean NOT NULL,
    found text NOT NULL,
    looked_at virtuozo_core.instant DEFAULT now() NOT NULL
);

-- Name: unserved_kinds; Type: VIEW; Schema: virtuozo_core
CREATE VIEW virtuozo_core.unserved_kinds AS
 SELECT h.kind,
    array_agg(h.name ORDER BY h.name) AS hosts,
    ARRAY( SELECT DISTINCT format('worker %s on %s: %s'::text, w.name, w.machine, COALESCE(k.found, 'its program knows no hosts of this kind'::text)) AS format
           FROM (virtuozo_core.workers w
             LEFT JOIN virtuozo_core.worker_kinds k ON (((k.worker_id = w.id) AND (k.kind = h.kind))))
          WHERE (((w.kind)::text = 'worker'::text) AND virtuozo_core.is_alive((w.heartbeat_at)::timestamp with time zone, (w.stopped_at)::timestamp with time zone))) AS why
   FROM virtuozo_core.hosts h
  WHERE (NOT h.ignored)
  GROUP BY h.kind
 HAVING (NOT virtuozo_core.is_served(h.kind));

-- Name: stuck; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.stuck AS
 SELECT 'no_scheduler'::text AS kind,
    NULL::uuid AS id,
    NULL::text AS host,
    NULL::text AS guest,
    ( SELECT max((workers.heartbeat_at)::timestamp with time zone) AS max
           FROM virtuozo_core.workers
          WHERE ((workers.kind)::text = 'scheduler'::text)) AS since,
    'no scheduler gives a sign of life'::text AS reason,
    'start virtuozo scheduler'::text AS advice
  WHERE ((NOT (EXISTS ( SELECT 1
           FROM virtuozo_core.workers w
          WHERE (((w.kind)::text = 'scheduler'::text) AND virtuozo_core.is_alive((w.heartbeat_at)::timestamp with time zone, (w.stopped_at)::timestamp with time zone))))) AND virtuozo_core.is_settled())
UNION ALL
 SELECT 'no_worker'::text AS kind,
    NULL::uuid AS id,
    NULL::text AS host,
    NULL::text AS guest,
    ( SELECT max((workers.heartbeat_at)::timestamp with time zone) AS max
           FROM virtuozo_core.workers
          WHERE ((workers.kind)::text = 'worker'::text)) AS since,
    'no worker gives a sign of life, and there is work'::text AS reason,
    'start virtuozo worker'::text AS advice
  WHERE ((NOT (EXISTS ( SELECT 1
           FROM virtuozo_core.workers w
          WHERE (((w.kind)::text = 'worker'::text) AND virtuozo_core.is_alive((w.heartbeat_at)::timestamp with time zone, (w.stopped_at)::timestamp with time zone))))) AND (EXISTS ( SELECT 1
           FROM virtuozo_core.runs
          WHERE ((runs.state)::text = 'running'::text))) AND virtuozo_core.is_settled())
UNION ALL
 SELECT 'kind'::text AS kind,
    h.id,
    h.name AS host,
    NULL::text AS guest,
    NULL::timestamp with time zone AS since,
    format('no running worker serves hosts of the kind %s, and there is work: %s'::text, h.kind, array_to_string(k.why, '; '::text)) AS reason,
    'mend what is missing there, or start a worker on a machine that has it'::text AS advice
   FROM (virtuozo_core.unserved_kinds k
     JOIN virtuozo_core.hosts h ON ((h.kind = k.kind)))
  WHERE ((k.why <> '{}'::text[]) AND ((EXISTS ( SELECT 1
           FROM virtuozo_core.guest_runs g
          WHERE ((g.host_id = h.id) AND ((g.state)::text = ANY (ARRAY['waiting'::text, 'admitted'::text]))))) OR (EXISTS ( SELECT 1
           FROM virtuozo_core.host_runs r
          WHERE ((r.host_id = h.id) AND ((r.state)::text = 'queued'::text)))) OR (EXISTS ( SELECT 1
           FROM virtuozo_core.obligations o
          WHERE (o.host_id = h.id)))))
UNION ALL
 SELECT 'lease'::text AS kind,
    g.id,
    h.name AS host,
    u.name AS guest,
    g.lease_until AS since,
    format('its worker is silent in step %s'::text, COALESCE((g.step)::text, 'validate'::text)) AS reason,
    'a scheduler hands it to another worker; see that one runs'::text AS advice
   FROM (((virtuozo_core.guest_runs g
     JOIN virtuozo_core.hosts h ON ((h.id = g.host_id)))
     JOIN virtuozo_core.guests u ON ((u.id = g.guest_id)))
     CROSS JOIN virtuozo_core.settings s)
  WHERE (((g.state)::text = 'running'::text) AND ((g.lease_until)::timestamp with time zone < (now() - make_interval(secs => (s.lease_secs)::double precision))) AND virtuozo_core.is_settled())
UNION ALL
 SELECT g.step AS kind,
    g.id,
    h.name AS host,
    u.name AS guest,
    p.at AS since,
    format('its %s has not moved on for %s'::text,
        CASE g.step
            WHEN 'copy'::text THEN 'copy'::text
            ELSE 'verification'::text
        END, date_trunc('second'::text, (now() - (p.at)::timestamp with time zone))) AS reason,
    (
        CASE g.step
            WHEN 'copy'::text THEN 'look at the host''s storage and the destination'::text
            ELSE 'look at the destination'::text
        END || '; virtuozo.cancel() stops it'::text) AS advice
   FROM ((((virtuozo_core.guest_runs g
     JOIN virtuozo_core.hosts h ON ((h.id = g.host_id)))
     JOIN virtuozo_core.guests u ON ((u.id = g.guest_id)))
     LEFT JOIN virtuozo_core.steps s ON (((s.guest_run_id = g.id) AND (s.fence = g.fence) AND ((s.name)::text = (g.step)::text))))
     CROSS JOIN LATERAL ( SELECT GREATEST(g.progress_at, s.started_at) AS at) p)
  WHERE (((g.state)::text = 'running'::text) AND ((g.step)::text = ANY (ARRAY['copy'::text, 'verify'::text])) AND ((p.at)::timestamp with time zone < (now() - '00:10:00'::interval)))
UNION ALL
 SELECT 'files'::text AS kind,
    g.id,
    h.name AS host,
    u.name AS guest,
    w.since,
    format('%s have not answered for %s s'::text, w.what, floor(EXTRACT(epoch FROM (now() - (w.since)::timestamp with time zone)))) AS reason,
    format('see whether the file system is mounted and its server answers; it is given up after file_silence_secs (%s)'::text, s.file_silence_secs) AS advice
   FROM ((((virtuozo_core.file_waits w
     JOIN virtuozo_core.guest_runs g ON (((g.id = w.guest_run_id) AND (g.fence = w.fence))))
     JOIN virtuozo_core.hosts h ON ((h.id = g.host_id)))
     JOIN virtuozo_core.guests u ON ((u.id = g.guest_id)))
     CROSS JOIN virtuozo_core.settings s)
  WHERE ((g.state)::text = 'running'::text)
UNION ALL
 SELECT 'admitted'::text AS kind,
    g.id,
    h.name AS host,
    u.name AS guest,
    g.admitted_at AS since,
    'it has a slot, and no worker has taken it'::text AS reason,
    'start more workers, or see whether they reach the host'::text AS advice
   FROM ((virtuozo_core.guest_runs g
     JOIN virtuozo_core.hosts h ON ((h.id = g.host_id)))
     JOIN virtuozo_core.guests u ON ((u.id = g.guest_id)))
  WHERE (((g.state)::text = 'admitted'::text) AND ((g.admitted_at)::timestamp with time zone < (now() - '00:02:00'::interval)))
UNION ALL
 SELECT 'host'::text AS kind,
    r.id,
    h.name AS host,
    NULL::text AS guest,
    r.run_after AS since,
    'its host run is due, and no worker has taken it'::text AS reason,
    'start more workers: one serves host_threads hosts at a time'::text AS advice
   FROM (virtuozo_core.host_runs r
     JOIN virtuozo_core.hosts h ON ((h.id = r.host_id)))
  WHERE (((r.state)::text = 'queued'::text) AND ((r.run_after)::timestamp with time zone < (now() - '00:02:00'::interval)) AND (virtuozo_core.host_run_obstacle(r.*) IS NULL) AND (NOT (EXISTS ( SELECT 1
           FROM virtuozo_core.circuit_breakers x
          WHERE (x.host_id = r.host_id)))))
UNION ALL
 SELECT 'obligation'::text AS kind,
    o.id,
    h.name AS host,
    u.name AS guest,
    o.created_at AS since,
    format('%s could not be undone in %s attempts: %s'::text,
        CASE o.kind
            WHEN 'power_on'::text THEN 'a power off'::text
            ELSE ('the snapshot '::text || o.snapshot_name)
        END, o.attempts, o.last_error) AS reason,
    format('mend the cause on the host, or undo it there by hand: the next attempt sees that; where neither can ever be, virtuozo obligation forgive %s --reason WHY'::text, "right"(replace((o.id)::text, '-'::text, ''::text), 8)) AS advice
   FROM ((virtuozo_core.obligations o
     JOIN virtuozo_core.hosts h ON ((h.id = o.host_id)))
     JOIN virtuozo_core.guests u ON ((u.id = o.guest_id)))
  WHERE (o.attempts >= 3)
UNION ALL
 SELECT 'host_down'::text AS kind,
    h.id,
    h.name AS host,
    NULL::text AS guest,
    x.opened_at AS since,
    ('it '::text || virtuozo_core.down_reason(h.id)) AS reason,
        CASE
            WHEN x.login_refused THEN format('mend its password or user: virtuozo host password %1$s, virtuozo host edit %1$s --user USER; it is tried at once'::text, virtuozo_core.shell_word(h.name))
            ELSE format('start the host, or mend its address; virtuozo host check %s looks at once'::text, virtuozo_core.shell_word(h.name))
        END AS advice
   FROM (virtuozo_core.circuit_breakers x
     JOIN virtuozo_core.hosts h ON ((h.id = x.host_id)))
  WHERE ((EXISTS ( SELECT 1
           FROM virtuozo_core.guest_runs g
          WHERE ((g.host_id = h.id) AND ((g.state)::text = 'waiting'::text)))) OR (EXISTS ( SELECT 1
           FROM virtuozo_core.host_runs r
          WHERE ((r.host_id = h.id) AND ((r.state)::text = 'queued'::text)))) OR (EXISTS ( SELECT 1
           FROM virtuozo_core.obligations o
          WHERE (o.host_id = h.id))))
UNION ALL
 SELECT 'notice'::text AS kind,
    NULL::uuid AS id,
    NULL::text AS host,
    NULL::text AS guest,
    min((n.ended_at)::timestamp with time zone) AS since,
    format('%s by %s could not be sent: %s'::text,
        CASE count(*)
            WHEN 1 THEN 'a notice'::text
            ELSE (count(*) || ' notices'::text)
        END, n.channel, (array_agg(n.last_error ORDER BY n.ended_at DESC))[1]) AS reason,
    format('mend the cause, which virtuozo notice test %s tries out; virtuozo notice retry sends again'::text, n.channel) AS advice
   FROM virtuozo_core.notices n
  WHERE (((n.state)::text = 'failed'::text) AND ((n.kind)::text <> 'test'::text) AND ((n.ended_at)::timestamp with time zone > (now() - '7 days'::interval)) AND ((n.channel)::text IN ( SELECT virtuozo_core.notice_channels(s.*) AS notice_channels
           FROM virtuozo_core.notice_settings s)))
  GROUP BY n.channel
UNION ALL
 SELECT 'paused'::text AS kind,
    NULL::uuid AS id,
    NULL::text AS host,
    NULL::text AS guest,
    s.paused_at AS since,
    format('all hosts are paused%s, and work waits for that'::text, (' by '::text || s.paused_by)) AS reason,
    'virtuozo host resume all'::text AS advice
   FROM virtuozo_core.settings s
  WHERE ((s.paused_at IS NOT NULL) AND ((EXISTS ( SELECT 1
           FROM virtuozo_core.guest_runs g
          WHERE ((g.state)::text = 'waiting'::text))) OR (EXISTS ( SELECT 1
           FROM virtuozo_core.host_runs r
          WHERE ((r.state)::text = 'queued'::text)))))
UNION ALL
 SELECT 'paused'::text AS kind,
    h.id,
    h.name AS host,
    NULL::text AS guest,
    p.since,
    format('it %s, and work waits for that'::text, virtuozo_core.pause_reason(h.id)) AS reason,
    format('virtuozo host resume %s'::text, virtuozo_core.shell_word(h.name)) AS advice
   FROM (virtuozo_core.paused_hosts p
     JOIN virtuozo_core.hosts h ON ((h.id = p.host_id)))
  WHERE ((NOT p.with_all) AND ((EXISTS ( SELECT 1
           FROM virtuozo_core.guest_runs g
          WHERE ((g.host_id = h.id) AND ((g.state)::text = 'waiting'::text)))) OR (EXISTS ( SELECT 1
           FROM virtuozo_core.host_runs r
          WHERE ((r.host_id = h.id) AND ((r.state)::text = 'queued'::text))))))
UNION ALL
 SELECT 'future_point'::text AS kind,
    p.id,
    p.host_name AS host,
    p.guest_name AS guest,
    p.published_at AS since,
    format('its restore point of %s is dated in the future, and covers no other one'::text, to_char((p.taken_at AT TIME ZONE 'UTC'::text), 'YYYY-MM-DD HH24:MI UTC'::text)) AS reason,
    format('if a clock was wrong, set it right on the database''s machine and the workers''; then, or if nobody of yours made it: virtuozo point delete --force %s'::text, "right"(replace((p.id)::text, '-'::text, ''::text), 8)) AS advice
   FROM virtuozo_core.restore_points p
  WHERE (((p.taken_at)::timestamp with time zone > (now() + '00:05:00'::interval)) AND ((p.state)::text <> 'deleting'::text));

-- Name: missing_capabilities; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.missing_capabilities (
    worker_id uuid NOT NULL,
    host_id uuid,
    location text,
    reason text NOT NULL,
    noted_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT missing_capabilities_check CHECK ((num_nonnulls(host_id, location) = 1)),
    CONSTRAINT missing_capabilities_location_check CHECK ((location <> ''::text))
);

-- Name: lacks; Type: VIEW; Schema: virtuozo_core
CREATE VIEW virtuozo_core.lacks AS
 SELECT missing_capabilities.worker_id,
    missing_capabilities.host_id,
    missing_capabilities.location,
    missing_capabilities.reason,
    missing_capabilities.noted_at
   FROM virtuozo_core.missing_capabilities
  WHERE ((missing_capabilities.noted_at)::timestamp with time zone > (now() - '00:05:00'::interval));

-- Name: lacking_workers; Type: VIEW; Schema: virtuozo_core
CREATE VIEW virtuozo_core.lacking_workers AS
 SELECT w.id AS worker_id,
    w.name,
    w.machine,
    h.name AS host,
    x.location,
    x.reason,
    x.noted_at,
    virtuozo_core.leaves_to_others(w.id, COALESCE(h.kind, ''::text), h.id, array_remove(ARRAY[x.location], NULL::text)) AS leaves_to_others
   FROM ((virtuozo_core.lacks x
     JOIN virtuozo_core.workers w ON (((w.id = x.worker_id) AND virtuozo_core.is_alive((w.heartbeat_at)::timestamp with time zone, (w.stopped_at)::timestamp with time zone))))
     LEFT JOIN virtuozo_core.hosts h ON ((h.id = x.host_id)));

-- Name: lead; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.lead (
    only_row boolean DEFAULT true NOT NULL,
    fence bigint DEFAULT 1 NOT NULL,
    owner_id uuid NOT NULL,
    lease_until virtuozo_core.instant NOT NULL,
    CONSTRAINT lead_only_row_check CHECK (only_row)
);

-- Name: workers; Type: VIEW; Schema: virtuozo
CREATE VIEW virtuozo.workers AS
 SELECT w.id,
    w.kind,
    w.name,
    w.machine,
    w.pid,
    w.version,
        CASE
            WHEN (w.stopped_at IS NOT NULL) THEN 'stopped'::text
            WHEN virtuozo_core.is_alive((w.heartbeat_at)::timestamp with time zone, (w.stopped_at)::timestamp with time zone) THEN 'alive'::text
            ELSE 'silent'::text
        END AS state,
    w.started_at,
    w.heartbeat_at,
    w.stopped_at,
    (round(EXTRACT(epoch FROM (now() - (w.heartbeat_at)::timestamp with time zone))))::bigint AS silent_secs,
    ( SELECT count(*) AS count
           FROM virtuozo_core.guest_runs g
          WHERE ((g.owner_id = w.id) AND ((g.state)::text = 'running'::text))) AS guest_runs,
    ( SELECT count(*) AS count
           FROM virtuozo_core.host_runs g
          WHERE ((g.owner_id = w.id) AND ((g.state)::text = 'running'::text))) AS host_runs,
    (EXISTS ( SELECT 1
           FROM virtuozo_core.lead l
          WHERE ((l.owner_id = w.id) AND virtuozo_core.is_held((l.lease_until)::timestamp with time zone)))) AS leads,
    ARRAY( SELECT k.kind
           FROM virtuozo_core.worker_kinds k
          WHERE ((k.worker_id = w.id) AND k.is_served)
          ORDER BY k.kind) AS serves,
    ARRAY( SELECT COALESCE(x.location, ('host '::text || x.host)) AS "coalesce"
           FROM virtuozo_core.lacking_workers x
          WHERE (x.worker_id = w.id)
          ORDER BY COALESCE(x.location, ('host '::text || x.host))) AS lacks
   FROM virtuozo_core.workers w;

-- Name: definitions; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.definitions (
    only_row boolean DEFAULT true NOT NULL,
    generation integer NOT NULL,
    applied_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT definitions_generation_check CHECK ((generation >= 0)),
    CONSTRAINT definitions_only_row_check CHECK (only_row)
);

-- Name: disk_progress; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.disk_progress (
    guest_run_id uuid NOT NULL,
    device text NOT NULL,
    bytes_total bigint NOT NULL,
    bytes_copied bigint DEFAULT 0 NOT NULL,
    updated_at virtuozo_core.instant DEFAULT now() NOT NULL
);

-- Name: disks; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.disks (
    id uuid NOT NULL,
    guest_id uuid NOT NULL,
    device text NOT NULL,
    file_name text NOT NULL,
    datastore text,
    ignored boolean DEFAULT false NOT NULL,
    capacity_bytes bigint,
    state virtuozo_core.disk_state DEFAULT 'unknown'::text NOT NULL,
    state_reason text,
    checked_at virtuozo_core.instant,
    CONSTRAINT disks_device_check CHECK ((device <> ''::text))
);

-- Name: event_forwarder; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.event_forwarder (
    only_row boolean DEFAULT true NOT NULL,
    since pg_snapshot NOT NULL,
    until pg_snapshot,
    last_xact bigint DEFAULT 0 NOT NULL,
    last_id bigint DEFAULT 0 NOT NULL,
    max_id bigint NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    CONSTRAINT event_forwarder_only_row_check CHECK (only_row)
);

-- Name: events_id_seq; Type: SEQUENCE; Schema: virtuozo_core
ALTER TABLE virtuozo_core.events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME virtuozo_core.events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: guest_hooks; Type: VIEW; Schema: virtuozo_core
CREATE VIEW virtuozo_core.guest_hooks AS
 SELECT hooks.guest_id,
    jsonb_agg(jsonb_build_object('moment', hooks.moment, 'command', hooks.command, 'limit_secs', hooks.limit_secs, 'on_failure', hooks.on_failure) ORDER BY hooks.moment) AS hooks
   FROM virtuozo_core.hooks
  WHERE (hooks.guest_id IS NOT NULL)
  GROUP BY hooks.guest_id;

-- Name: guest_details; Type: VIEW; Schema: virtuozo_core
CREATE VIEW virtuozo_core.guest_details AS
 SELECT g.id,
    g.host_id,
    h.name AS host_name,
    g.locator,
    g.name,
    g.configured,
    g.ignored,
    g.destination,
    g.mode,
    g.resume_power_state,
    g.backup_when_off,
    g.keep_last,
    g.rpo_secs,
    g.state,
    g.state_reason,
    g.power,
    g.checked_at,
    COALESCE(( SELECT k.hooks
           FROM virtuozo_core.guest_hooks k
          WHERE (k.guest_id = g.id)), '[]'::jsonb) AS hooks,
    g.uuid,
    g.node,
    g.change_ids,
    g.crashes
   FROM (virtuozo_core.guests g
     JOIN virtuozo_core.hosts h ON ((h.id = g.host_id)));

-- Name: host_nodes; Type: VIEW; Schema: virtuozo_core
CREATE VIEW virtuozo_core.host_nodes AS
 SELECT DISTINCT h.id AS host_id,
    COALESCE(g.node, ''::text) AS node
   FROM (virtuozo_core.hosts h
     LEFT JOIN virtuozo_core.guests g ON ((g.host_id = h.id)));

-- Name: ready_hosts; Type: VIEW; Schema: virtuozo_core
CREATE VIEW virtuozo_core.ready_hosts AS
 SELECT h.id AS host_id,
    (EXISTS ( SELECT 1
           FROM virtuozo_core.circuit_breakers x
          WHERE (x.host_id = h.id))) AS is_down
   FROM virtuozo_core.hosts h
  WHERE ((virtuozo_core.host_reason(h.id) IS NULL) AND (virtuozo_core.slot_reason(h.id, NULL::text) IS NULL));

-- Name: repository_ids; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.repository_ids (
    path text NOT NULL,
    id uuid NOT NULL,
    known_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT repository_ids_path_check CHECK ((path <> ''::text))
);

-- Name: repository_space; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.repository_space (
    path text NOT NULL,
    free_bytes bigint NOT NULL,
    seen_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT repository_space_path_check CHECK ((path <> ''::text))
);

-- Name: restore_points_entry_number_seq; Type: SEQUENCE; Schema: virtuozo_core
ALTER TABLE virtuozo_core.restore_points ALTER COLUMN entry_number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME virtuozo_core.restore_points_entry_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: schedule_targets; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.schedule_targets (
    schedule_id uuid NOT NULL,
    host_id uuid,
    guest_id uuid,
    CONSTRAINT schedule_targets_check CHECK ((num_nonnulls(host_id, guest_id) = 1))
);

-- Name: space_reservations; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.space_reservations (
    guest_run_id uuid NOT NULL,
    of_fence bigint NOT NULL,
    repository text NOT NULL,
    machine text NOT NULL,
    device bigint NOT NULL,
    bytes bigint NOT NULL,
    reserved_at virtuozo_core.instant DEFAULT now() NOT NULL,
    CONSTRAINT space_reservations_bytes_check CHECK ((bytes >= 0)),
    CONSTRAINT space_reservations_repository_check CHECK ((repository <> ''::text))
);

-- Name: ticks; Type: TABLE; Schema: virtuozo_core
CREATE TABLE virtuozo_core.ticks (
    schedule_id uuid NOT NULL,
    due_at virtuozo_core.instant NOT NULL,
    run_id uuid NOT NULL
);

-- Name: circuit_breakers circuit_breakers_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.circuit_breakers
    ADD CONSTRAINT circuit_breakers_pkey PRIMARY KEY (host_id);

-- Name: datastores datastores_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.datastores
    ADD CONSTRAINT datastores_pkey PRIMARY KEY (host_id, name);

-- Name: definitions definitions_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.definitions
    ADD CONSTRAINT definitions_pkey PRIMARY KEY (only_row);

-- Name: disk_progress disk_progress_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.disk_progress
    ADD CONSTRAINT disk_progress_pkey PRIMARY KEY (guest_run_id, device);

-- Name: disks disks_guest_id_device_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.disks
    ADD CONSTRAINT disks_guest_id_device_key UNIQUE (guest_id, device);

-- Name: disks disks_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.disks
    ADD CONSTRAINT disks_pkey PRIMARY KEY (id);

-- Name: event_forwarder event_forwarder_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.event_forwarder
    ADD CONSTRAINT event_forwarder_pkey PRIMARY KEY (only_row);

-- Name: events events_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id);

-- Name: file_waits file_waits_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.file_waits
    ADD CONSTRAINT file_waits_pkey PRIMARY KEY (guest_run_id, fence);

-- Name: guest_runs guest_runs_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guest_runs
    ADD CONSTRAINT guest_runs_pkey PRIMARY KEY (id);

-- Name: guest_runs guest_runs_run_id_guest_id_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guest_runs
    ADD CONSTRAINT guest_runs_run_id_guest_id_key UNIQUE (run_id, guest_id);

-- Name: guest_slots guest_slots_guest_run_id_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guest_slots
    ADD CONSTRAINT guest_slots_guest_run_id_key UNIQUE (guest_run_id);

-- Name: guest_slots guest_slots_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guest_slots
    ADD CONSTRAINT guest_slots_pkey PRIMARY KEY (host_id, node, slot_no);

-- Name: guests guests_host_id_locator_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guests
    ADD CONSTRAINT guests_host_id_locator_key UNIQUE (host_id, locator);

-- Name: guests guests_host_id_uuid_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guests
    ADD CONSTRAINT guests_host_id_uuid_key UNIQUE (host_id, uuid);

-- Name: guests guests_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guests
    ADD CONSTRAINT guests_pkey PRIMARY KEY (id);

-- Name: hook_runs hook_runs_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.hook_runs
    ADD CONSTRAINT hook_runs_pkey PRIMARY KEY (id);

-- Name: hooks hooks_guest_id_moment_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.hooks
    ADD CONSTRAINT hooks_guest_id_moment_key UNIQUE NULLS NOT DISTINCT (guest_id, moment);

-- Name: host_runs host_runs_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.host_runs
    ADD CONSTRAINT host_runs_pkey PRIMARY KEY (id);

-- Name: host_runs host_runs_run_id_host_id_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.host_runs
    ADD CONSTRAINT host_runs_run_id_host_id_key UNIQUE (run_id, host_id);

-- Name: hosts hosts_name_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.hosts
    ADD CONSTRAINT hosts_name_key UNIQUE (name);

-- Name: hosts hosts_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.hosts
    ADD CONSTRAINT hosts_pkey PRIMARY KEY (id);

-- Name: lead lead_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.lead
    ADD CONSTRAINT lead_pkey PRIMARY KEY (only_row);

-- Name: missing_capabilities missing_capabilities_worker_id_host_id_location_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.missing_capabilities
    ADD CONSTRAINT missing_capabilities_worker_id_host_id_location_key UNIQUE NULLS NOT DISTINCT (worker_id, host_id, location);

-- Name: notice_settings notice_settings_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.notice_settings
    ADD CONSTRAINT notice_settings_pkey PRIMARY KEY (only_row);

-- Name: notices notices_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.notices
    ADD CONSTRAINT notices_pkey PRIMARY KEY (id);

-- Name: obligations obligations_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.obligations
    ADD CONSTRAINT obligations_pkey PRIMARY KEY (id);

-- Name: repositories repositories_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.repositories
    ADD CONSTRAINT repositories_pkey PRIMARY KEY (path);

-- Name: repository_ids repository_ids_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.repository_ids
    ADD CONSTRAINT repository_ids_pkey PRIMARY KEY (path);

-- Name: repository_space repository_space_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.repository_space
    ADD CONSTRAINT repository_space_pkey PRIMARY KEY (path);

-- Name: requests requests_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.requests
    ADD CONSTRAINT requests_pkey PRIMARY KEY (id);

-- Name: restore_points restore_points_guest_run_id_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.restore_points
    ADD CONSTRAINT restore_points_guest_run_id_key UNIQUE (guest_run_id);

-- Name: restore_points restore_points_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.restore_points
    ADD CONSTRAINT restore_points_pkey PRIMARY KEY (id);

-- Name: restore_points restore_points_repository_path_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.restore_points
    ADD CONSTRAINT restore_points_repository_path_key UNIQUE (repository, path);

-- Name: runs runs_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (id);

-- Name: schedule_targets schedule_targets_schedule_id_host_id_guest_id_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.schedule_targets
    ADD CONSTRAINT schedule_targets_schedule_id_host_id_guest_id_key UNIQUE NULLS NOT DISTINCT (schedule_id, host_id, guest_id);

-- Name: schedules schedules_name_key; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.schedules
    ADD CONSTRAINT schedules_name_key UNIQUE (name);

-- Name: schedules schedules_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.schedules
    ADD CONSTRAINT schedules_pkey PRIMARY KEY (id);

-- Name: settings settings_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (only_row);

-- Name: space_reservations space_reservations_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.space_reservations
    ADD CONSTRAINT space_reservations_pkey PRIMARY KEY (guest_run_id);

-- Name: steps steps_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.steps
    ADD CONSTRAINT steps_pkey PRIMARY KEY (guest_run_id, fence, name);

-- Name: ticks ticks_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.ticks
    ADD CONSTRAINT ticks_pkey PRIMARY KEY (schedule_id, due_at);

-- Name: worker_kinds worker_kinds_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.worker_kinds
    ADD CONSTRAINT worker_kinds_pkey PRIMARY KEY (worker_id, kind);

-- Name: workers workers_pkey; Type: CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.workers
    ADD CONSTRAINT workers_pkey PRIMARY KEY (id);

-- Name: virtuozo_jobs_open; Type: INDEX; Schema: apalis
CREATE INDEX virtuozo_jobs_open ON apalis.jobs USING btree (job_type, job) WHERE (status = ANY (ARRAY['Pending'::text, 'Queued'::text, 'Running'::text]));

-- Name: virtuozo_jobs_over; Type: INDEX; Schema: apalis
CREATE INDEX virtuozo_jobs_over ON apalis.jobs USING btree (COALESCE(done_at, run_at)) WHERE (status = ANY (ARRAY['Done'::text, 'Failed'::text, 'Killed'::text]));

-- Name: events_at; Type: INDEX; Schema: virtuozo_core
CREATE INDEX events_at ON virtuozo_core.events USING btree (at);

-- Name: events_guest_run; Type: INDEX; Schema: virtuozo_core
CREATE INDEX events_guest_run ON virtuozo_core.events USING btree (guest_run_id) WHERE (guest_run_id IS NOT NULL);

-- Name: events_run; Type: INDEX; Schema: virtuozo_core
CREATE INDEX events_run ON virtuozo_core.events USING btree (run_id) WHERE (run_id IS NOT NULL);

-- Name: events_xact; Type: INDEX; Schema: virtuozo_core
CREATE INDEX events_xact ON virtuozo_core.events USING btree (xact);

-- Name: guest_runs_guest; Type: INDEX; Schema: virtuozo_core
CREATE INDEX guest_runs_guest ON virtuozo_core.guest_runs USING btree (guest_id, created_at DESC);

-- Name: guest_runs_host_run; Type: INDEX; Schema: virtuozo_core
CREATE INDEX guest_runs_host_run ON virtuozo_core.guest_runs USING btree (host_run_id);

-- Name: guest_runs_one_active; Type: INDEX; Schema: virtuozo_core
CREATE UNIQUE INDEX guest_runs_one_active ON virtuozo_core.guest_runs USING btree (guest_id) WHERE ((state)::text = ANY (ARRAY['admitted'::text, 'running'::text]));

-- Name: guest_runs_open; Type: INDEX; Schema: virtuozo_core
CREATE INDEX guest_runs_open ON virtuozo_core.guest_runs USING btree (run_id, host_id) WHERE ((state)::text = ANY (ARRAY['waiting'::text, 'admitted'::text, 'running'::text]));

-- Name: guest_runs_untraced; Type: INDEX; Schema: virtuozo_core
CREATE INDEX guest_runs_untraced ON virtuozo_core.guest_runs USING btree (run_id) WHERE ((ended_at IS NOT NULL) AND (NOT traced));

-- Name: guest_runs_waiting; Type: INDEX; Schema: virtuozo_core
CREATE INDEX guest_runs_waiting ON virtuozo_core.guest_runs USING btree (host_id, created_at, id) WHERE ((state)::text = 'waiting'::text);

-- Name: hook_runs_guest_run; Type: INDEX; Schema: virtuozo_core
CREATE INDEX hook_runs_guest_run ON virtuozo_core.hook_runs USING btree (guest_run_id) WHERE (guest_run_id IS NOT NULL);

-- Name: hook_runs_open; Type: INDEX; Schema: virtuozo_core
CREATE INDEX hook_runs_open ON virtuozo_core.hook_runs USING btree (created_at, id) WHERE ((state)::text = ANY (ARRAY['waiting'::text, 'running'::text]));

-- Name: hook_runs_run; Type: INDEX; Schema: virtuozo_core
CREATE INDEX hook_runs_run ON virtuozo_core.hook_runs USING btree (run_id);

-- Name: host_runs_open; Type: INDEX; Schema: virtuozo_core
CREATE INDEX host_runs_open ON virtuozo_core.host_runs USING btree (run_id) WHERE ((state)::text = ANY (ARRAY['queued'::text, 'running'::text]));

-- Name: missing_capabilities_host; Type: INDEX; Schema: virtuozo_core
CREATE INDEX missing_capabilities_host ON virtuozo_core.missing_capabilities USING btree (host_id);

-- Name: notices_ended; Type: INDEX; Schema: virtuozo_core
CREATE INDEX notices_ended ON virtuozo_core.notices USING btree (ended_at) WHERE (ended_at IS NOT NULL);

-- Name: notices_folded; Type: INDEX; Schema: virtuozo_core
CREATE INDEX notices_folded ON virtuozo_core.notices USING btree (folded_into) WHERE (folded_into IS NOT NULL);

-- Name: notices_one_digest; Type: INDEX; Schema: virtuozo_core
CREATE UNIQUE INDEX notices_one_digest ON virtuozo_core.notices USING btree (due_at, channel) WHERE ((kind)::text = 'digest'::text);

-- Name: notices_open; Type: INDEX; Schema: virtuozo_core
CREATE INDEX notices_open ON virtuozo_core.notices USING btree (channel, run_after) WHERE ((state)::text = ANY (ARRAY['waiting'::text, 'sending'::text]));

-- Name: notices_run; Type: INDEX; Schema: virtuozo_core
CREATE INDEX notices_run ON virtuozo_core.notices USING btree (run_id) WHERE (run_id IS NOT NULL);

-- Name: obligations_guest; Type: INDEX; Schema: virtuozo_core
CREATE INDEX obligations_guest ON virtuozo_core.obligations USING btree (guest_id);

-- Name: obligations_guest_run; Type: INDEX; Schema: virtuozo_core
CREATE INDEX obligations_guest_run ON virtuozo_core.obligations USING btree (guest_run_id);

-- Name: obligations_power; Type: INDEX; Schema: virtuozo_core
CREATE UNIQUE INDEX obligations_power ON virtuozo_core.obligations USING btree (guest_id) WHERE ((kind)::text = 'power_on'::text);

-- Name: obligations_snapshot; Type: INDEX; Schema: virtuozo_core
CREATE UNIQUE INDEX obligations_snapshot ON virtuozo_core.obligations USING btree (guest_id, snapshot_name) WHERE ((kind)::text = 'remove_snapshot'::text);

-- Name: requests_ended; Type: INDEX; Schema: virtuozo_core
CREATE INDEX requests_ended ON virtuozo_core.requests USING btree (ended_at) WHERE (ended_at IS NOT NULL);

-- Name: requests_host; Type: INDEX; Schema: virtuozo_core
CREATE INDEX requests_host ON virtuozo_core.requests USING btree (host_id);

-- Name: requests_open; Type: INDEX; Schema: virtuozo_core
CREATE INDEX requests_open ON virtuozo_core.requests USING btree (asked_at) WHERE ((state)::text = ANY (ARRAY['waiting'::text, 'running'::text]));

-- Name: restore_points_guest; Type: INDEX; Schema: virtuozo_core
CREATE INDEX restore_points_guest ON virtuozo_core.restore_points USING btree (guest_id, taken_at DESC);

-- Name: runs_created; Type: INDEX; Schema: virtuozo_core
CREATE INDEX runs_created ON virtuozo_core.runs USING btree (created_at, id);

-- Name: runs_running; Type: INDEX; Schema: virtuozo_core
CREATE INDEX runs_running ON virtuozo_core.runs USING btree (created_at) WHERE ((state)::text = 'running'::text);

-- Name: runs_untraced; Type: INDEX; Schema: virtuozo_core
CREATE INDEX runs_untraced ON virtuozo_core.runs USING btree (ended_at) WHERE (NOT traced);

-- Name: ticks_run; Type: INDEX; Schema: virtuozo_core
CREATE INDEX ticks_run ON virtuozo_core.ticks USING btree (run_id);

-- Name: jobs virtuozo_describe; Type: TRIGGER; Schema: apalis
CREATE TRIGGER virtuozo_describe BEFORE INSERT ON apalis.jobs FOR EACH ROW EXECUTE FUNCTION virtuozo_core.describe_job();

-- Name: jobs virtuozo_guard; Type: TRIGGER; Schema: apalis
CREATE TRIGGER virtuozo_guard BEFORE INSERT OR UPDATE ON apalis.jobs FOR EACH ROW EXECUTE FUNCTION virtuozo_core.guard_job();

-- Name: guest_slots slot_is_left; Type: TRIGGER; Schema: virtuozo_core
CREATE TRIGGER slot_is_left AFTER UPDATE OF guest_run_id ON virtuozo_core.guest_slots FOR EACH ROW WHEN (((old.guest_run_id IS NOT NULL) AND (new.guest_run_id IS NULL))) EXECUTE FUNCTION virtuozo_core.slot_is_left();

-- Name: requests virtuozo_changed; Type: TRIGGER; Schema: virtuozo_core
CREATE TRIGGER virtuozo_changed AFTER UPDATE OF state ON virtuozo_core.requests FOR EACH ROW WHEN (((old.state)::text IS DISTINCT FROM (new.state)::text)) EXECUTE FUNCTION virtuozo_core.request_changed();

-- Name: guest_runs virtuozo_hook; Type: TRIGGER; Schema: virtuozo_core
CREATE TRIGGER virtuozo_hook AFTER UPDATE OF state ON virtuozo_core.guest_runs FOR EACH ROW WHEN ((new.after_hook AND (old.ended_at IS NULL) AND (new.ended_at IS NOT NULL))) EXECUTE FUNCTION virtuozo_core.hook_after_guest_run();

-- Name: runs virtuozo_hook; Type: TRIGGER; Schema: virtuozo_core
CREATE TRIGGER virtuozo_hook AFTER UPDATE OF state ON virtuozo_core.runs FOR EACH ROW WHEN ((((old.state)::text = 'running'::text) AND ((new.state)::text <> 'running'::text))) EXECUTE FUNCTION virtuozo_core.hook_after_run();

-- Name: circuit_breakers circuit_breakers_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.circuit_breakers
    ADD CONSTRAINT circuit_breakers_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE CASCADE;

-- Name: datastores datastores_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.datastores
    ADD CONSTRAINT datastores_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE CASCADE;

-- Name: disk_progress disk_progress_guest_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.disk_progress
    ADD CONSTRAINT disk_progress_guest_run_id_fkey FOREIGN KEY (guest_run_id) REFERENCES virtuozo_core.guest_runs(id) ON DELETE CASCADE;

-- Name: disks disks_guest_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.disks
    ADD CONSTRAINT disks_guest_id_fkey FOREIGN KEY (guest_id) REFERENCES virtuozo_core.guests(id) ON DELETE CASCADE;

-- Name: events events_guest_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.events
    ADD CONSTRAINT events_guest_id_fkey FOREIGN KEY (guest_id) REFERENCES virtuozo_core.guests(id) ON DELETE CASCADE;

-- Name: events events_guest_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.events
    ADD CONSTRAINT events_guest_run_id_fkey FOREIGN KEY (guest_run_id) REFERENCES virtuozo_core.guest_runs(id) ON DELETE CASCADE;

-- Name: events events_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.events
    ADD CONSTRAINT events_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE CASCADE;

-- Name: events events_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.events
    ADD CONSTRAINT events_run_id_fkey FOREIGN KEY (run_id) REFERENCES virtuozo_core.runs(id) ON DELETE CASCADE;

-- Name: file_waits file_waits_guest_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.file_waits
    ADD CONSTRAINT file_waits_guest_run_id_fkey FOREIGN KEY (guest_run_id) REFERENCES virtuozo_core.guest_runs(id) ON DELETE CASCADE;

-- Name: guest_runs guest_runs_guest_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guest_runs
    ADD CONSTRAINT guest_runs_guest_id_fkey FOREIGN KEY (guest_id) REFERENCES virtuozo_core.guests(id) ON DELETE CASCADE;

-- Name: guest_runs guest_runs_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guest_runs
    ADD CONSTRAINT guest_runs_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE CASCADE;

-- Name: guest_runs guest_runs_host_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guest_runs
    ADD CONSTRAINT guest_runs_host_run_id_fkey FOREIGN KEY (host_run_id) REFERENCES virtuozo_core.host_runs(id) ON DELETE CASCADE;

-- Name: guest_runs guest_runs_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guest_runs
    ADD CONSTRAINT guest_runs_run_id_fkey FOREIGN KEY (run_id) REFERENCES virtuozo_core.runs(id) ON DELETE CASCADE;

-- Name: guest_slots guest_slots_guest_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guest_slots
    ADD CONSTRAINT guest_slots_guest_run_id_fkey FOREIGN KEY (guest_run_id) REFERENCES virtuozo_core.guest_runs(id) ON DELETE SET NULL;

-- Name: guest_slots guest_slots_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guest_slots
    ADD CONSTRAINT guest_slots_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE CASCADE;

-- Name: guests guests_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.guests
    ADD CONSTRAINT guests_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE CASCADE;

-- Name: hook_runs hook_runs_guest_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.hook_runs
    ADD CONSTRAINT hook_runs_guest_run_id_fkey FOREIGN KEY (guest_run_id) REFERENCES virtuozo_core.guest_runs(id) ON DELETE CASCADE;

-- Name: hook_runs hook_runs_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.hook_runs
    ADD CONSTRAINT hook_runs_run_id_fkey FOREIGN KEY (run_id) REFERENCES virtuozo_core.runs(id) ON DELETE CASCADE;

-- Name: hooks hooks_guest_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.hooks
    ADD CONSTRAINT hooks_guest_id_fkey FOREIGN KEY (guest_id) REFERENCES virtuozo_core.guests(id) ON DELETE CASCADE;

-- Name: host_runs host_runs_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.host_runs
    ADD CONSTRAINT host_runs_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE CASCADE;

-- Name: host_runs host_runs_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.host_runs
    ADD CONSTRAINT host_runs_run_id_fkey FOREIGN KEY (run_id) REFERENCES virtuozo_core.runs(id) ON DELETE CASCADE;

-- Name: missing_capabilities missing_capabilities_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.missing_capabilities
    ADD CONSTRAINT missing_capabilities_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE CASCADE;

-- Name: missing_capabilities missing_capabilities_worker_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.missing_capabilities
    ADD CONSTRAINT missing_capabilities_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES virtuozo_core.workers(id) ON DELETE CASCADE;

-- Name: notices notices_folded_into_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.notices
    ADD CONSTRAINT notices_folded_into_fkey FOREIGN KEY (folded_into) REFERENCES virtuozo_core.notices(id) ON DELETE CASCADE;

-- Name: notices notices_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.notices
    ADD CONSTRAINT notices_run_id_fkey FOREIGN KEY (run_id) REFERENCES virtuozo_core.runs(id) ON DELETE CASCADE;

-- Name: obligations obligations_guest_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.obligations
    ADD CONSTRAINT obligations_guest_id_fkey FOREIGN KEY (guest_id) REFERENCES virtuozo_core.guests(id) ON DELETE RESTRICT;

-- Name: obligations obligations_guest_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.obligations
    ADD CONSTRAINT obligations_guest_run_id_fkey FOREIGN KEY (guest_run_id) REFERENCES virtuozo_core.guest_runs(id) ON DELETE RESTRICT;

-- Name: obligations obligations_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.obligations
    ADD CONSTRAINT obligations_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE RESTRICT;

-- Name: requests requests_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.requests
    ADD CONSTRAINT requests_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE CASCADE;

-- Name: restore_points restore_points_guest_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.restore_points
    ADD CONSTRAINT restore_points_guest_id_fkey FOREIGN KEY (guest_id) REFERENCES virtuozo_core.guests(id) ON DELETE SET NULL;

-- Name: restore_points restore_points_guest_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.restore_points
    ADD CONSTRAINT restore_points_guest_run_id_fkey FOREIGN KEY (guest_run_id) REFERENCES virtuozo_core.guest_runs(id) ON DELETE SET NULL;

-- Name: runs runs_schedule_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.runs
    ADD CONSTRAINT runs_schedule_id_fkey FOREIGN KEY (schedule_id) REFERENCES virtuozo_core.schedules(id) ON DELETE SET NULL;

-- Name: schedule_targets schedule_targets_guest_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.schedule_targets
    ADD CONSTRAINT schedule_targets_guest_id_fkey FOREIGN KEY (guest_id) REFERENCES virtuozo_core.guests(id) ON DELETE CASCADE;

-- Name: schedule_targets schedule_targets_host_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.schedule_targets
    ADD CONSTRAINT schedule_targets_host_id_fkey FOREIGN KEY (host_id) REFERENCES virtuozo_core.hosts(id) ON DELETE CASCADE;

-- Name: schedule_targets schedule_targets_schedule_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.schedule_targets
    ADD CONSTRAINT schedule_targets_schedule_id_fkey FOREIGN KEY (schedule_id) REFERENCES virtuozo_core.schedules(id) ON DELETE CASCADE;

-- Name: space_reservations space_reservations_guest_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.space_reservations
    ADD CONSTRAINT space_reservations_guest_run_id_fkey FOREIGN KEY (guest_run_id) REFERENCES virtuozo_core.guest_runs(id) ON DELETE CASCADE;

-- Name: steps steps_guest_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.steps
    ADD CONSTRAINT steps_guest_run_id_fkey FOREIGN KEY (guest_run_id) REFERENCES virtuozo_core.guest_runs(id) ON DELETE CASCADE;

-- Name: ticks ticks_run_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.ticks
    ADD CONSTRAINT ticks_run_id_fkey FOREIGN KEY (run_id) REFERENCES virtuozo_core.runs(id) ON DELETE CASCADE;

-- Name: ticks ticks_schedule_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.ticks
    ADD CONSTRAINT ticks_schedule_id_fkey FOREIGN KEY (schedule_id) REFERENCES virtuozo_core.schedules(id) ON DELETE CASCADE;

-- Name: worker_kinds worker_kinds_worker_id_fkey; Type: FK CONSTRAINT; Schema: virtuozo_core
ALTER TABLE ONLY virtuozo_core.worker_kinds
    ADD CONSTRAINT worker_kinds_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES virtuozo_core.workers(id) ON DELETE CASCADE;

-- Name: SCHEMA virtuozo; Type: ACL; Schema: -
GRANT USAGE ON SCHEMA virtuozo TO virtuozo_read;
GRANT USAGE ON SCHEMA virtuozo TO virtuozo_operator;

-- Name: FUNCTION cancel(run_or_guest_run_id uuid); Type: ACL; Schema: virtuozo
REVOKE ALL ON FUNCTION virtuozo.cancel(run_or_guest_run_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION virtuozo.cancel(run_or_guest_run_id uuid) TO virtuozo_operator;

-- Name: FUNCTION forgive(obligation_id uuid, reason text); Type: ACL; Schema: virtuozo
REVOKE ALL ON FUNCTION virtuozo.forgive(obligation_id uuid, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION virtuozo.forgive(obligation_id uuid, reason text) TO virtuozo_operator;

-- Name: FUNCTION pause(host_or_all text); Type: ACL; Schema: virtuozo
REVOKE ALL ON FUNCTION virtuozo.pause(host_or_all text) FROM PUBLIC;
GRANT ALL ON FUNCTION virtuozo.pause(host_or_all text) TO virtuozo_operator;

-- Name: FUNCTION requeue(guest_run_id uuid); Type: ACL; Schema: virtuozo
REVOKE ALL ON FUNCTION virtuozo.requeue(guest_run_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION virtuozo.requeue(guest_run_id uuid) TO virtuozo_operator;

-- Name: FUNCTION resume(host_or_all text); Type: ACL; Schema: virtuozo
REVOKE ALL ON FUNCTION virtuozo.resume(host_or_all text) FROM PUBLIC;
GRANT ALL ON FUNCTION virtuozo.resume(host_or_all text) TO virtuozo_operator;

-- Name: FUNCTION retry_failed(run_id uuid); Type: ACL; Schema: virtuozo
REVOKE ALL ON FUNCTION virtuozo.retry_failed(run_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION virtuozo.retry_failed(run_id uuid) TO virtuozo_operator;

-- Name: TABLE events; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.events TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.events TO virtuozo_operator;

-- Name: TABLE guest_runs; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.guest_runs TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.guest_runs TO virtuozo_operator;

-- Name: TABLE guests; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.guests TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.guests TO virtuozo_operator;

-- Name: TABLE hook_runs; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.hook_runs TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.hook_runs TO virtuozo_operator;

-- Name: TABLE hooks; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.hooks TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.hooks TO virtuozo_operator;

-- Name: TABLE hosts; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.hosts TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.hosts TO virtuozo_operator;

-- Name: TABLE jobs; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.jobs TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.jobs TO virtuozo_operator;

-- Name: TABLE nodes; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.nodes TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.nodes TO virtuozo_operator;

-- Name: TABLE notices; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.notices TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.notices TO virtuozo_operator;

-- Name: TABLE obligations; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.obligations TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.obligations TO virtuozo_operator;

-- Name: TABLE rpo; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.rpo TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.rpo TO virtuozo_operator;

-- Name: TABLE runs; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.runs TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.runs TO virtuozo_operator;

-- Name: TABLE stuck; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.stuck TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.stuck TO virtuozo_operator;

-- Name: TABLE workers; Type: ACL; Schema: virtuozo
GRANT SELECT ON TABLE virtuozo.workers TO virtuozo_read;
GRANT SELECT ON TABLE virtuozo.workers TO virtuozo_operator;
