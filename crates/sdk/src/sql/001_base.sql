-- First outcomes of clients' writes.
CREATE TABLE dujiang_idempotency (
    key text PRIMARY KEY,
    request_hash bytea NOT NULL,
    status integer NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dujiang_idempotency_by_age ON dujiang_idempotency USING brin (created_at);

-- First outcomes of messages from other units. Kept for good: their senders never give up.
CREATE TABLE dujiang_inbox (
    key text PRIMARY KEY,
    request_hash bytea NOT NULL,
    status integer NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Messages to other units, written in the transaction of the business effect they belong to.
CREATE TABLE dujiang_outbox (
    message uuid PRIMARY KEY,
    destination text NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done')),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt timestamptz NOT NULL DEFAULT now(),
    outcome jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'done') = (outcome IS NOT NULL))
);
CREATE INDEX dujiang_outbox_due ON dujiang_outbox (next_attempt) WHERE state = 'pending';
CREATE INDEX dujiang_outbox_by_age ON dujiang_outbox USING brin (created_at);
