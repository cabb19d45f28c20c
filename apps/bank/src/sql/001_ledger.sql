-- The bank's books of one unit. The program keeps the rules below; the database refuses what breaks them.

CREATE TABLE customers (
    customer text PRIMARY KEY CHECK (customer ~ '^[A-Za-z0-9-]{1,32}$'),
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Serial numbers of account numbers; 12 digits.
CREATE SEQUENCE account_serial MINVALUE 1 MAXVALUE 999999999999;

CREATE TABLE accounts (
    account text PRIMARY KEY CHECK (account ~ '^[0-9]{18}$'),
    customer text NOT NULL REFERENCES customers,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    limit_minor bigint NOT NULL CHECK (limit_minor <= 0),
    balance_minor bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT balance_not_below_limit CHECK (balance_minor >= limit_minor)
) WITH (fillfactor = 70); -- balances change in place
CREATE INDEX accounts_by_customer ON accounts (customer);

CREATE TABLE postings (
    posting uuid PRIMARY KEY,
    kind text NOT NULL
        CHECK (kind IN ('deposit', 'transfer', 'transfer_out', 'transfer_in', 'reversal', 'transit_return')),
    state text NOT NULL CHECK (state IN ('completed', 'in_transit', 'reversed')),
    account text NOT NULL REFERENCES accounts,
    to_account text,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    text text NOT NULL,
    idempotency_key text,
    -- Two credits for one transfer of another unit, or two reversals of one posting, cannot be.
    peer_posting uuid UNIQUE,
    reverses uuid UNIQUE REFERENCES postings,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'transfer_in') = (peer_posting IS NOT NULL)),
    CHECK ((kind IN ('reversal', 'transit_return')) = (reverses IS NOT NULL)),
    CHECK (state <> 'in_transit' OR kind = 'transfer_out')
);

CREATE TABLE entries (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    posting uuid NOT NULL REFERENCES postings,
    account text NOT NULL CHECK (account ~ '^[0-9]{18}$' OR account IN ('cash', 'in_transit')),
    amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
    currency text NOT NULL,
    balance_after bigint,
    -- The unit's own accounts have no balance row: it would be locked by every posting.
    CHECK ((balance_after IS NULL) = (account IN ('cash', 'in_transit')))
);
CREATE INDEX entries_by_account ON entries (account, entry);
CREATE INDEX entries_by_posting ON entries (posting);

-- All entries of a posting come in one statement, sum to zero per currency, and carry the balance their account
-- has.
CREATE FUNCTION check_added_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added GROUP BY posting, currency HAVING sum(amount_minor) <> 0) THEN
        RAISE EXCEPTION 'entries of a posting do not sum to zero' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF EXISTS (
        SELECT FROM added GROUP BY posting
        HAVING count(*) < 2 OR count(*) <> (SELECT count(*) FROM entries WHERE entries.posting = added.posting)
    ) THEN
        RAISE EXCEPTION 'a posting has all of its entries, two or more, from the beginning'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF EXISTS (
        SELECT FROM added LEFT JOIN accounts USING (account)
        WHERE added.balance_after IS DISTINCT FROM accounts.balance_minor
            OR (added.balance_after IS NOT NULL AND added.currency <> accounts.currency)
    ) THEN
        RAISE EXCEPTION 'an entry does not fit its account' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER entries_added AFTER INSERT ON entries
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION check_added_entries();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries are only ever added' USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- No balance changes without its entry.
CREATE FUNCTION check_changed_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT balance_after FROM entries WHERE account = NEW.account ORDER BY entry DESC LIMIT 1)
        IS DISTINCT FROM (SELECT balance_minor FROM accounts WHERE account = NEW.account)
    THEN
        RAISE EXCEPTION 'a balance was changed without its entry' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER balance_has_entry AFTER UPDATE OF balance_minor ON accounts
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_changed_balance();
