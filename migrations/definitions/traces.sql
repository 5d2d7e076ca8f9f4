-- Trace ids and spans (docs/reference/traces.md).

-- A trace id as it is written everywhere outside of this database.
CREATE OR REPLACE FUNCTION virtuozo_core.trace_hex(trace uuid) RETURNS text LANGUAGE sql IMMUTABLE
RETURN replace(trace::text, '-', '');

-- What a job carries (W3C Trace Context): the trace, and the span of the host run or guest run. A span's id
-- is the second half of the id of its row; of a guest run that was put back, changed by its trace_fence.
CREATE OR REPLACE FUNCTION virtuozo_core.traceparent(trace uuid, id uuid, trace_fence bigint) RETURNS text LANGUAGE sql STABLE
RETURN format('00-%s-%s-01', virtuozo_core.trace_hex(trace),
              lpad(to_hex((('x' || right(virtuozo_core.trace_hex(id), 16))::bit(64)::bigint) # trace_fence), 16, '0'));
