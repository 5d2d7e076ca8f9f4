-- Notices: what is told by mail and webhook. docs/NOTICES.md describes them.

-- One row: how the site is told. No mail is sent without mail_host, mail_from and mail_to, nothing is posted
-- without webhook_url.
CREATE TABLE virtuozo_core.notice_settings (
    only_row              boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    mail_host             text CHECK (mail_host <> ''),
    mail_port             integer CHECK (mail_port BETWEEN 1 AND 65535),   -- NULL: the usual one of mail_security
    mail_security         text NOT NULL DEFAULT 'starttls' CHECK (mail_security IN ('starttls', 'tls', 'none')),
    allow_unencrypted     boolean NOT NULL DEFAULT false,
    mail_user             text CHECK (mail_user <> ''),                    -- NULL: no login
    mail_password_sealed  bytea,
    mail_from             text CHECK (mail_from <> ''),
    mail_to               text[] NOT NULL DEFAULT '{}',
    webhook_url           text CHECK (webhook_url <> ''),
    webhook_secret_sealed bytea,
    ca_file               text CHECK (ca_file <> ''),
    on_failure            boolean NOT NULL DEFAULT true,
    on_success            boolean NOT NULL DEFAULT false,
    digest_time           time DEFAULT '07:00',                            -- NULL: no digest
    digest_time_zone      text,                                            -- NULL: settings.time_zone
    -- Digests due up to and including this time have been dealt with.
    digest_done_until     timestamptz NOT NULL DEFAULT now(),
    group_secs            integer NOT NULL DEFAULT 120 CHECK (group_secs BETWEEN 0 AND 86400),
    messages_per_hour     integer NOT NULL DEFAULT 20 CHECK (messages_per_hour >= 1),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CHECK (mail_security <> 'none' OR allow_unencrypted)
);
INSERT INTO virtuozo_core.notice_settings DEFAULT VALUES;

-- One row for each thing to be told and each way of telling it. The one that is sent takes others along:
-- those are folded into it.
CREATE TABLE virtuozo_core.notices (
    id          uuid PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('failure', 'success', 'owed', 'digest', 'test')),
    channel     text NOT NULL CHECK (channel IN ('mail', 'webhook')),
    run_id      uuid REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    due_at      timestamptz,             -- of a digest: the end of the day that it tells about
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sending', 'sent', 'folded', 'dropped', 'failed')),
    folded_into uuid REFERENCES virtuozo_core.notices ON DELETE CASCADE,
    held        boolean NOT NULL DEFAULT false,   -- it waited because messages_per_hour was reached
    fence       bigint NOT NULL DEFAULT 0,
    owner_id    uuid,
    lease_until timestamptz,
    attempts    integer NOT NULL DEFAULT 0,
    run_after   timestamptz NOT NULL DEFAULT now(),
    sent_to     text[] NOT NULL DEFAULT '{}',
    refused_to  text[] NOT NULL DEFAULT '{}',
    last_error  text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    CHECK ((kind IN ('failure', 'success', 'owed')) = (run_id IS NOT NULL)),
    CHECK ((kind = 'digest') = (due_at IS NOT NULL)),
    CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CHECK ((state = 'folded') = (folded_into IS NOT NULL)),
    CHECK ((state IN ('waiting', 'sending')) = (ended_at IS NULL))
);
CREATE INDEX notices_run ON virtuozo_core.notices (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX notices_folded ON virtuozo_core.notices (folded_into) WHERE folded_into IS NOT NULL;
CREATE INDEX notices_open ON virtuozo_core.notices (channel, run_after) WHERE state IN ('waiting', 'sending');
CREATE INDEX notices_ended ON virtuozo_core.notices (ended_at) WHERE ended_at IS NOT NULL;
CREATE UNIQUE INDEX notices_one_digest ON virtuozo_core.notices (due_at, channel) WHERE kind = 'digest';

-- The ways of telling that are configured.
CREATE FUNCTION virtuozo_core.notice_channels(s virtuozo_core.notice_settings) RETURNS SETOF text LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT 'mail' WHERE s.mail_host IS NOT NULL AND s.mail_from IS NOT NULL AND s.mail_to <> '{}'
    UNION ALL
    SELECT 'webhook' WHERE s.webhook_url IS NOT NULL;
END;

-- What was free in a repository when a worker last published there; other processes may not see it.
CREATE TABLE virtuozo_core.repository_space (
    path        text PRIMARY KEY CHECK (path <> ''),
    free_bytes  bigint NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT now()
);

-- As before, with the queue of notices.
CREATE OR REPLACE FUNCTION virtuozo_core.is_deliverable(queue text, job bytea) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    key text := CASE queue WHEN 'virtuozo-host' THEN 'host_run_id' WHEN 'virtuozo-guest' THEN 'guest_run_id'
                           WHEN 'virtuozo-notice' THEN 'notice_id' ELSE 'guest_id' END;
BEGIN
    RETURN coalesce(virtuozo_core.uuid_or_null(virtuozo_core.payload(job) ->> key) IS NOT NULL, false);
END $$;
CREATE OR REPLACE FUNCTION virtuozo_core.guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
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
    ELSIF new.job_type IN ('virtuozo-host', 'virtuozo-guest', 'virtuozo-undo', 'virtuozo-notice')
      AND (tg_op = 'INSERT' OR new.job IS DISTINCT FROM old.job OR new.job_type IS DISTINCT FROM old.job_type)
      AND NOT virtuozo_core.is_deliverable(new.job_type, new.job) THEN
        why := 'its payload is not a JSON object with the id of a host run, guest run, guest or notice';
    ELSE
        RETURN new;
    END IF;
    RAISE EXCEPTION 'this row would stop every worker of the queue %: %', new.job_type, why
        USING ERRCODE = 'check_violation', HINT = 'Use the functions of the schema virtuozo instead of apalis.jobs.';
END $$;

CREATE VIEW virtuozo.notices AS
SELECT n.id, n.kind, n.channel, n.run_id, n.state, n.folded_into, n.held, n.attempts, n.run_after, n.sent_to,
       n.refused_to, n.last_error, n.created_at, n.ended_at
  FROM virtuozo_core.notices n;

SELECT virtuozo_core.grant_roles();
